"""Repeated figures and a repeated table, made up: a model of the paper, and a stranger."""

from collections.abc import Callable, Mapping
from typing import Any

from probekit.paper import numbers
from probekit.paper.protocol import EXTENDED, PAPER
from probekit.pipelines.reproduction.document import SCHEMA

KNOWN, STRANGER = "EleutherAI/pythia-410m", "tiny-m"
PARAMETERS = {KNOWN: 405_000_000, STRANGER: 1_400_000}


def _share(name: str, value: float, n: int) -> dict[str, Any]:
    return {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05} | (
        {"n_positions": n} if name != "paper_top5" else {}
    )


def _about(model: str, task: str) -> dict[str, Any]:
    named = "Pythia 410M" if model == KNOWN else None
    text = {"open_ended": "prose", "translation": "iwslt"}[task]
    return {
        "model": model, "paper_model": named, "n_parameters": PARAMETERS[model], "text": text,
        "task": task,
    }  # fmt: skip


def _document(figure: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "figure": figure,
        "command": f"probekit reproduce {figure}",
        "versions": {"probekit": "1", "torch": "2"},
        "texts": [{"domain": "prose", "location": "words.jsonl"}],
        "strangers": [STRANGER],
        "samples": 12,
        "runs": [],
        "choices": [list(pair) for pair in numbers.choices(figure)],
        "rows": rows,
    }


def figure_1() -> dict[str, Any]:
    """Return figure 1 of both models in both tasks, at both sets of positions."""
    rows = []
    for model in PARAMETERS:
        for task in ("open_ended", "translation"):
            for positions, n in ((PAPER, 40), (EXTENDED, 900)):
                for offset in (1, 2):
                    row = _about(model, task) | {"positions": positions, "offset": offset}
                    row |= _share("top5", 0.6 - 0.2 * (offset - 1), n)
                    row |= {"interval": "wilson", "n_samples": 12}
                    second = {"branches_mean": 640.0, "mass_min": 0.99, "paper_branches": 850}
                    row |= second if offset == 2 else dict.fromkeys(second)
                    known = _share("paper_top5", 0.675, 200)
                    row |= known if model == KNOWN else dict.fromkeys(known)
                    rows.append(row)
    return _document("figure-1", rows)


def figure_2() -> dict[str, Any]:
    """Return figure 2 of both models: four layers each."""
    rows = []
    for model in PARAMETERS:
        for layer in (1, 2, 3, 4):
            row = _about(model, "open_ended") | {"layer": layer, "depth": (layer - 1) / 3}
            row |= _share("kl_nats", 4.0 - 0.9 * layer, 900)
            row |= {"n_samples": 12, "last": layer == 4, "first_depth": 1 / 3}
            known = {"paper_kl_nats": 0.5, "paper_first_depth": 0.68}
            rows.append(row | (known if model == KNOWN else dict.fromkeys(known)))
    return _document("figure-2", rows)


def table_1() -> dict[str, Any]:
    """Return table 1 of both models at both sets of positions."""
    rows = []
    for model in PARAMETERS:
        for positions, n in ((PAPER, 200), (EXTENDED, 900)):
            for strategy in ("finetuned-marginalized", "joint", "heads-on-finetuned"):
                for offset in (1, 2):
                    row = _about(model, "translation") | {"strategy": strategy, "offset": offset}
                    row |= {"run": f"{STRANGER}-heads"}
                    row |= {"positions": positions, "interval": "wilson", "n_samples": 12}
                    row |= _share("top5", 0.5 - 0.15 * offset, n)
                    baseline, known = strategy == "finetuned-marginalized", model == KNOWN
                    apart = _share("above_baseline", -0.125, n)
                    row |= (dict.fromkeys(apart) if baseline else apart) | {"n_positions": n}
                    row |= _share("above_heads_only", 0.06, n) if strategy == "joint" else {}
                    theirs = _share("paper_top5", 0.538, 1000)
                    ours = not known or strategy == "heads-on-finetuned"
                    rows.append(row | (dict.fromkeys(theirs) if ours else theirs))
    run = {
        "run": f"{STRANGER}-heads", "model": STRANGER, "kind": "block", "init": "zero",
        "epochs": 2, "step_blocks": 2, "seed": 0, "learning_rate": 0.0016, "steps": 254,
        "documents": 175, "tokens": 64_303, "left_out": {},
    }  # fmt: skip
    return _document("table-1", rows) | {"runs": [run]}


DOCUMENTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "figure-1": figure_1,
    "figure-2": figure_2,
    "table-1": table_1,
}

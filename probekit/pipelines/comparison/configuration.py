"""Settings and facts that differ between compared runs."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from probekit.pipelines.comparison.paired_differences import ComparedRun

# Facts of a model that matter to how it was measured: neither its name nor digests of its weights.
OF_MODEL = (
    "architecture",
    "n_layers",
    "d_model",
    "vocab_size",
    "n_parameters",
    "softcap",
    "tokenizer",
)
OF_RUN = ("device", "dtype", "attention", "separator")
UNSET = "not set"

Fact = Callable[[ComparedRun], Any]


def same(runs: Sequence[ComparedRun]) -> dict[str, bool]:
    """Return whether all runs have the same tokenizer, text, targets and offsets."""
    return {
        "tokenizer": agree(runs, lambda run: run.model["tokenizer"]),
        "text": agree(runs, lambda run: sorted(run.texts.items())),
        "target": agree(runs, lambda run: run.settings["target"]),
        "offsets": agree(runs, lambda run: run.settings["offsets"]),
    }


def configuration(runs: Sequence[ComparedRun]) -> list[dict[str, Any]]:
    """Return the settings and facts that differ: a key, and its value in each run as text."""
    facts = {run.name: dict(_facts(run)) for run in runs}
    keys = dict.fromkeys(key for of_run in facts.values() for key in of_run)
    values = {key: {name: of_run.get(key, UNSET) for name, of_run in facts.items()} for key in keys}
    return [
        {"key": key, "values": by_run}
        for key, by_run in values.items()
        if len(set(by_run.values())) > 1
    ]


def _facts(run: ComparedRun) -> Iterator[tuple[str, str]]:
    """Yield the settings of a run and the facts of its model, text and machine."""
    of_run = run.results["run"]
    for name in OF_MODEL:
        yield f"model.{name}", _as_text(run.model[name])
    for row in run.results["text"]:
        yield f"text.{row['domain']}.sha256", row["sha256"]
        yield f"text.{row['domain']}.tokens", _as_text(row["tokens"])
    for name in OF_RUN:
        yield f"run.{name}", _as_text(of_run[name])
    for part in ("settings", "versions"):
        for name, value in of_run[part].items():
            if (part, name) != ("settings", "model"):  # the runs are named after it
                yield f"{part}.{name}", _as_text(value)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def agree(runs: Sequence[ComparedRun], fact: Fact) -> bool:
    """Return whether a fact is the same in all runs."""
    return all(fact(run) == fact(runs[0]) for run in runs)

"""Settings that differ between compared runs, and the warnings that follow."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from probekit.pipelines.comparison.paired_differences import DRAWN_BY, ComparedRun, RunPair
from probekit.scoring.rates import FEWEST_FOR_INTERVAL, FEWEST_TEST_DOCUMENTS

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
MARGINALIZED_BY = "marginal", "nucleus", "max_branches"

Fact = Callable[[ComparedRun], Any]

OWN_TARGETS = (
    "Each model is scored against its own greedy continuation: a model that repeats itself is easy "
    "to foresee, and a difference says nothing of the text."
)


def same(runs: Sequence[ComparedRun]) -> dict[str, bool]:
    """Return whether all runs have the same tokenizer, text, targets and offsets."""
    return {
        "tokenizer": _agree(runs, lambda run: run.model["tokenizer"]),
        "text": _agree(runs, lambda run: sorted(run.texts.items())),
        "target": _agree(runs, lambda run: run.settings["target"]),
        "offsets": _agree(runs, lambda run: run.settings["offsets"]),
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


def warnings(runs: Sequence[ComparedRun]) -> list[dict[str, str]]:
    """Return what a reader must know before comparing: code and message."""
    return [{"code": code, "message": message} for code, message in _warnings(runs) if message]


def _warnings(runs: Sequence[ComparedRun]) -> Iterator[tuple[str, str]]:
    """Yield the code of every warning and its message, empty where it does not apply."""
    yield "text-differs", _texts(runs)
    for code, fact, message in _FACTS:
        yield code, "" if _agree(runs, fact) else f"{message}: {_listed(runs, fact)}."
    if all(run.settings["target"] == "model" for run in runs):
        yield "model-targets", OWN_TARGETS
    yield "unpaired", _unpaired(runs)
    yield "few-test-documents", _few(runs)


def _setting(name: str) -> Fact:
    return lambda run: run.settings[name]


def _settings(names: Sequence[str]) -> Fact:
    return lambda run: ", ".join(f"{name} {run.settings[name]}" for name in names)


# Code of the warning, the fact in which runs must agree, the message.
_FACTS: Sequence[tuple[str, Fact, str]] = (
    (
        "tokenizer-differs",
        lambda run: run.model["tokenizer"][:8],
        "The tokenizers differ, so tokens, ranks and nats do not mean the same: only bits per byte "
        "are compared, each run resampled by itself, and t+2 is not the same distance in the text",
    ),
    (
        "target-differs",
        _setting("target"),
        "The targets differ: no differences are given between runs with other targets",
    ),
    (
        "offsets-differ",
        _setting("offsets"),
        "The horizons differ: an offset is compared among the runs that measured it, and the "
        "positions that were marginalized are not the same",
    ),
    (
        "block-differs",
        _setting("block"),
        "The blocks differ in length: models saw more or less of the text before a position",
    ),
    (
        "separator-differs",
        lambda run: run.results["run"]["separator"],
        "Documents were parted by other separators, each by one that its model knows",
    ),
    (
        "tokens-differ",
        _setting("max_tokens"),
        "The runs read different amounts of text, and their probes learnt from as many tokens",
    ),
    ("site-differs", _setting("site"), "Probes read different places of a block"),
    (
        "marginalization-differs",
        _settings(MARGINALIZED_BY),
        "Paths were kept in different ways, so the ceilings are not equally exact",
    ),
    ("dtype-differs", lambda run: run.results["run"]["dtype"], "The data types differ"),
    (
        "python-differs",
        lambda run: run.results["run"]["versions"]["python"],
        "The versions of Python differ",
    ),
)


def _texts(runs: Sequence[ComparedRun]) -> str:
    """Name the runs whose text is not that of the first."""
    first = runs[0]
    other = [run.name for run in runs if run.texts != first.texts]
    if not other:
        return ""
    return (
        f"The text of {', '.join(other)} is not that of {first.name}: a difference would be one of "
        "texts as much as of models, so none is given where it differs."
    )


def _unpaired(runs: Sequence[ComparedRun]) -> str:
    """Say between which runs positions differ although text and tokenizer are the same."""
    first = runs[0]
    for later in runs[1:]:
        pair = RunPair(later, first)
        if not pair.same_tokenizer:
            continue
        for domain in pair.shared_domains():
            for positions in ("all", "marginal"):
                if not pair.same_positions(domain, positions, 1):
                    return (
                        f"{later.name} and {first.name} were scored at different positions of "
                        f"{domain} ({_why(later, first)}): each is resampled by itself, so that "
                        "intervals of such differences are wider than they need be."
                    )
    return ""


def _why(one: ComparedRun, other: ComparedRun) -> str:
    names = ("block", "max_tokens", "limit", *DRAWN_BY)
    differ = [name for name in names if one.settings.get(name) != other.settings.get(name)]
    return f"settings that differ: {', '.join(differ)}" if differ else "the documents differ"


def _few(runs: Sequence[ComparedRun]) -> str:
    counts = {
        run.name: sum(row["documents"]["test"] for row in run.results["text"]) for run in runs
    }
    fewest = min(counts, key=lambda name: counts[name])
    if counts[fewest] >= FEWEST_TEST_DOCUMENTS:
        return ""
    few = counts[fewest] < FEWEST_FOR_INTERVAL
    least = FEWEST_FOR_INTERVAL if few else FEWEST_TEST_DOCUMENTS
    what = "there are no intervals, and no verdict" if few else "the intervals are rough"
    return f"{fewest} was tested on {counts[fewest]} documents; below {least} {what}."


def _agree(runs: Sequence[ComparedRun], fact: Fact) -> bool:
    return all(fact(run) == fact(runs[0]) for run in runs)


def _listed(runs: Sequence[ComparedRun], fact: Fact) -> str:
    return "; ".join(f"{run.name} {fact(run)}" for run in runs)

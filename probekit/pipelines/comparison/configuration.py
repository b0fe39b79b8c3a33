"""In what compared runs differ besides the model, and what that forbids."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from probekit.pipelines.comparison.paired_differences import DRAWN_BY, Pair, Side
from probekit.scoring.rates import FEWEST_TEST_DOCUMENTS

# Of a model, what names it or follows from its weights says nothing of how it was measured.
SHAPE = (
    "architecture",
    "n_layers",
    "d_model",
    "vocab_size",
    "n_parameters",
    "softcap",
    "tokenizer",
)
OF_RUN = ("device", "dtype", "attention")
UNSET = "not set"
MARGINALIZED_BY = "marginal", "nucleus", "max_branches"

OWN_TARGETS = (
    "Each model is scored against its own greedy continuation: a model that repeats itself is easy "
    "to foresee, and a difference says nothing of the text."
)


def same(sides: Sequence[Side]) -> dict[str, bool]:
    """Return in which respects all runs agree."""
    return {
        "tokenizer": _agree(sides, lambda side: side.model["tokenizer"]),
        "text": _agree(sides, lambda side: sorted(side.texts.items())),
        "target": _agree(sides, lambda side: side.settings["target"]),
        "offsets": _agree(sides, lambda side: side.settings["offsets"]),
    }


def configuration(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Return what differs: a key, and its value in each run, in words."""
    told = {side.name: dict(_told(side)) for side in sides}
    keys = dict.fromkeys(key for facts in told.values() for key in facts)
    values = {key: {name: facts.get(key, UNSET) for name, facts in told.items()} for key in keys}
    return [
        {"key": key, "values": own} for key, own in values.items() if len(set(own.values())) > 1
    ]


def _told(side: Side) -> Iterator[tuple[str, str]]:
    run = side.run.results["run"]
    for name in SHAPE:
        yield f"model.{name}", _words(side.model[name])
    for row in side.run.results["text"]:
        yield f"text.{row['domain']}.sha256", row["sha256"]
        yield f"text.{row['domain']}.tokens", _words(row["tokens"])
    for name in OF_RUN:
        yield f"run.{name}", _words(run[name])
    for part in ("settings", "versions"):
        for name, value in run[part].items():
            if (part, name) != ("settings", "model"):  # by which the runs are named
                yield f"{part}.{name}", _words(value)


def _words(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def warnings(sides: Sequence[Side]) -> list[dict[str, str]]:
    """Return what a reader must know before comparing: code and message."""
    found = {code: message for code, message in _all_warnings(sides) if message}
    return [{"code": code, "message": message} for code, message in found.items()]


def _all_warnings(sides: Sequence[Side]) -> Iterator[tuple[str, str]]:
    yield "text-differs", _texts(sides)
    for code, agree, message in _RESPECTS:
        yield code, "" if _agree(sides, agree) else f"{message}: {_listed(sides, agree)}."
    if all(side.settings["target"] == "model" for side in sides):
        yield "model-targets", OWN_TARGETS
    yield "unpaired", _unpaired(sides)
    yield "few-test-documents", _few(sides)


def _setting(name: str) -> Callable[[Side], Any]:
    return lambda side: side.settings[name]


def _settings(names: Sequence[str]) -> Callable[[Side], Any]:
    return lambda side: ", ".join(f"{name} {side.settings[name]}" for name in names)


_RESPECTS: Sequence[tuple[str, Callable[[Side], Any], str]] = (
    (
        "tokenizer-differs",
        lambda side: side.model["tokenizer"][:8],
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
    ("dtype-differs", lambda side: side.run.results["run"]["dtype"], "The data types differ"),
    (
        "python-differs",
        lambda side: side.run.results["run"]["versions"]["python"],
        "The versions of Python differ",
    ),
)


def _texts(sides: Sequence[Side]) -> str:
    """Name the runs whose text is not that of the first."""
    first = sides[0]
    other = [side.name for side in sides if side.texts != first.texts]
    if not other:
        return ""
    return (
        f"The text of {', '.join(other)} is not that of {first.name}: a difference would be one of "
        "texts as much as of models, so none is given where it differs."
    )


def _unpaired(sides: Sequence[Side]) -> str:
    """Say between which runs positions differ although text and tokenizer are the same."""
    for later in sides[1:]:
        pair = Pair(later, sides[0])
        if not pair.one_tokenizer:
            continue
        for domain in pair.domains():
            for positions in ("all", "marginal"):
                if not pair.paired(domain, positions, 1):
                    return (
                        f"{later.name} and {sides[0].name} were scored at different positions of "
                        f"{domain} ({_why(later, sides[0])}): each is resampled by itself, so that "
                        "intervals of such differences are wider than they need be."
                    )
    return ""


def _why(one: Side, other: Side) -> str:
    names = ("block", "max_tokens", "limit", *DRAWN_BY)
    differ = [name for name in names if one.settings.get(name) != other.settings.get(name)]
    return f"settings that differ: {', '.join(differ)}" if differ else "the documents differ"


def _few(sides: Sequence[Side]) -> str:
    counts = {s.name: sum(row["documents"]["test"] for row in s.run.results["text"]) for s in sides}
    fewest = min(counts, key=lambda name: counts[name])
    if counts[fewest] >= FEWEST_TEST_DOCUMENTS:
        return ""
    return (
        f"{fewest} was tested on {counts[fewest]} documents; below {FEWEST_TEST_DOCUMENTS} the "
        "intervals are rough."
    )


def _agree(sides: Sequence[Side], fact: Callable[[Side], Any]) -> bool:
    return all(fact(side) == fact(sides[0]) for side in sides)


def _listed(sides: Sequence[Side], fact: Callable[[Side], Any]) -> str:
    facts: Mapping[str, Any] = {side.name: fact(side) for side in sides}
    return "; ".join(f"{name} {value}" for name, value in facts.items())

"""What a reader must know before comparing runs: what differs, and what the runs warn of."""

from collections.abc import Iterator, Sequence

from probekit.pipelines.comparison.configuration import Fact, agree
from probekit.pipelines.comparison.paired_differences import DRAWN_BY, ComparedRun, RunPair

MARGINALIZED_BY = "marginal", "nucleus", "max_branches"

OWN_TARGETS = (
    "Each model is scored against its own greedy continuation: a model that repeats itself is easy "
    "to foresee, and a difference says nothing of the text."
)


def warnings(runs: Sequence[ComparedRun]) -> list[dict[str, str]]:
    """Return what a reader must know before comparing: code and message."""
    return [{"code": code, "message": message} for code, message in _warnings(runs) if message]


def _warnings(runs: Sequence[ComparedRun]) -> Iterator[tuple[str, str]]:
    """Yield the code of every warning and its message, empty where it does not apply."""
    yield "text-differs", _texts(runs)
    for code, fact, message in _FACTS:
        yield code, "" if agree(runs, fact) else f"{message}: {_listed(runs, fact)}."
    if all(run.settings["target"] == "model" for run in runs):
        yield "model-targets", OWN_TARGETS
    yield "unpaired", _unpaired(runs)
    yield from _of_runs(runs)


def _of_runs(runs: Sequence[ComparedRun]) -> Iterator[tuple[str, str]]:
    """Yield what the runs warn of, each kind once, with the names of the runs it concerns."""
    kinds: dict[str, dict[str, str]] = {}
    for run in runs:
        for warning in run.results["warnings"]:
            said = kinds.setdefault(warning["code"], {})
            before = f"{said[run.name]} " if run.name in said else ""
            said[run.name] = before + warning["message"]
    for code, said in kinds.items():
        first, message = next(iter(said.items()))
        alike = len(set(said.values())) == 1
        yield code, f"{', '.join(said)}{': ' if alike else f'. Of {first}: '}{message}"


def _setting(name: str) -> Fact:
    return lambda run: run.settings[name]


def _own_site(run: ComparedRun) -> str:
    """Return the place in a block of all that is compared: further ones stand in no score."""
    site = run.settings["site"]
    return str(site if isinstance(site, str) else site[0])


def _settings(names: Sequence[str]) -> Fact:
    return lambda run: ", ".join(f"{name} {run.settings[name]}" for name in names)


# Code of the warning, the fact in which runs must agree, the message.
_FACTS: Sequence[tuple[str, Fact, str]] = (
    (
        "tokenizer-differs",
        lambda run: run.model["tokenizer"][:8],
        "The tokenizers differ, so a token is not the same stretch of text: only bits per byte of "
        "the next token are compared, each run resampled by itself",
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
    ("site-differs", _own_site, "Probes read different places of a block"),
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


def _listed(runs: Sequence[ComparedRun], fact: Fact) -> str:
    return "; ".join(f"{run.name} {fact(run)}" for run in runs)

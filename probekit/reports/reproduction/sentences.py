"""What a repeated figure or table says: the answer, how to read it, what it is too little for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probekit.paper import numbers
from probekit.reports.components.numbers import fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.reproduction.tables import SETS

# Heads trained on so many times less than the paper's are warned of.
FEW = 10
MOST_PLACES = 4  # sentences on models and texts
IN_ORDER = "heads-only", "joint"  # beside the baseline, in the paper's order

WHAT = {
    "figure-1": "Top-5 accuracy where the last 20 target tokens of each sample are predicted, fed "
    "with the reference: the next token by the model, the second by the model's own next-token "
    "distributions, the token between summed out.",
    "figure-2": "Mean KL(lens || final) in nats where target tokens are predicted: the logit lens "
    "at a layer of the backbone against the model's output. Low means that the next-token answer "
    "is readable there; it does not mean that what is needed for later tokens is gone.",
    "table-1": "Top-5 accuracy of trained heads where target tokens of test documents are "
    "predicted, fed with the reference: the last 20 of each sample, as in the paper, and all of "
    "them (extended).",
}


def verdict(document: Row) -> list[str]:
    """Return the answer in a sentence or few, and what keeps the paper's numbers from it."""
    answer = {"figure-1": _second_token, "figure-2": _lens, "table-1": _order}[document["figure"]]
    found = list(answer(document))
    if len(found) > MOST_PLACES:
        found = [*found[:MOST_PLACES], f"{len(found) - MOST_PLACES} more are in the table."]
    if document["strangers"]:
        names = ", ".join(document["strangers"])
        found.append(
            f"The paper does not have {names}: its numbers are of other models, for reference "
            "only, and nothing here confirms or contradicts them."
        )
    return found


def reading(document: Row) -> list[str]:
    """Return what must be known to read the numbers."""
    parts = [WHAT[document["figure"]]]
    named = dict.fromkeys(
        (row["model"], row["paper_model"]) for row in document["rows"] if row["paper_model"]
    )
    if named:
        pairs = ", ".join(f"{model} as the paper's {name}" for model, name in named)
        parts.append(f"Taken by its name: {pairs}.")
    if document["figure"] == "figure-1" and all(
        row["task"] == "open_ended" for row in document["rows"]
    ):
        parts.append(
            "Translation was not measured: it needs pairs, which are not built in. Give them with "
            "--text PAIRS.jsonl (fields source and target; the paper's are IWSLT 2017 de-en)."
        )
    return [*parts, *(_apart(document["rows"]) if document["figure"] == "table-1" else ())]


def _widest(rows: Sequence[Row]) -> str:
    """Return the larger of the sets of positions that were measured."""
    last, extended = SETS
    return extended if any(row["positions"] == extended for row in rows) else last


def _second_token(document: Row) -> Iterator[str]:
    """Say how often the model itself has the next and the second token among its five likeliest."""
    rows = [row for row in document["rows"] if row["positions"] == _widest(document["rows"])]
    for model, text in dict.fromkeys((row["model"], row["text"]) for row in rows):
        pair = [row for row in rows if (row["model"], row["text"]) == (model, text)]
        shares = {row["offset"]: _percent(row, "top5") for row in pair}
        theirs = {row["offset"]: _percent(row, "paper_top5") for row in pair}
        paper = f" The paper: {theirs[1]} and {theirs[2]}." if theirs[1] and theirs[2] else ""
        yield (
            f"{model} has {shares[1]} of next tokens and {shares[2]} of second tokens among its "
            f"five likeliest ({text}, {pair[0]['positions']}).{paper}"
        )


def _percent(row: Row, name: str) -> str:
    """Return a share in per cent with its interval, empty where there is none."""
    values = [known(row.get(name + end)) for end in ("", "_low", "_high")]
    if values[0] is None:
        return ""
    share, *ends = (fixed(100 * value, 1) for value in values if value is not None)
    return f"{share} % [{', '.join(ends)}]" if len(ends) == 2 else f"{share} %"


def _lens(document: Row) -> Iterator[str]:
    """Say how far the lens is from the output at the last backbone layer, and where it is near."""
    limit = numbers.source_of("figure_2")["threshold_nats"]
    for row in (row for row in document["rows"] if row["last"]):
        low, high = (fixed(row[f"kl_nats_{end}"], 3) for end in ("low", "high"))
        depth, theirs = known(row["first_depth"]), known(row["paper_kl_nats"])
        near = "nowhere" if depth is None else f"first at depth {fixed(depth, 2)}"
        paper = "" if theirs is None else f" The paper: {fixed(theirs, 1)} nats."
        yield (
            f"In {row['model']} the logit lens of the last backbone layer is "
            f"{fixed(row['kl_nats'], 3)} nats [{low}, {high}] from the output ({row['text']}), and "
            f"below {limit} nats {near}.{paper}"
        )


def _order(document: Row) -> Iterator[str]:
    """Say whether heads only, joint and the baseline are in the paper's order, second token."""
    positions = _widest(document["rows"])
    standing = {run["run"]: run.get("left_out") for run in document["runs"]}
    for row in document["rows"]:
        if (row["strategy"], row["offset"], row["positions"]) == ("joint", 2, positions):
            below, above = (
                _interval(row, name, sign)
                for name, sign in (("above_heads_only", 1), ("above_baseline", -1))
            )
            if below is None or above is None:
                continue
            there = below[1] > 0 and above[1] > 0
            told = _judged(there, standing.get(row.get("run")))
            yield f"{told} ({row['model']} on {row['text']}, second token, {positions})."
            out = standing.get(row.get("run")) or {}
            reasons = [f"{name}: {out[name]}" for name in IN_ORDER if name in out]
            yield from [f"{'; '.join(reasons)}."] if reasons else []
            yield (
                f"Joint is above heads only by {_ends(below)}, the baseline above joint by "
                f"{_ends(above)}."
            )


def _judged(there: bool, left_out: Mapping[str, str] | None) -> str:
    """Say whether the paper's order is there, if the strategies take part in any."""
    if left_out is None:
        order = "is seen" if there else "is not clear"
        return (
            f"The paper's order {order} here, but whether heads only and joint were trained enough "
            "to be in any order was not checked"
        )
    out = [name for name in IN_ORDER if name in left_out]
    if out:
        part = "takes" if len(out) == 1 else "take"
        names = " and ".join(out)
        return f"Cannot tell whether the paper's order is there: {names} {part} part in none"
    return f"The paper's order is {'there' if there else 'not clear here'}"


def _interval(row: Row, name: str, sign: int) -> tuple[float, float, float] | None:
    if known(row.get(name)) is None:
        return None
    low, high = sorted(sign * row[name + end] for end in ("_low", "_high"))
    return sign * row[name], low, high


def _ends(interval: tuple[float, float, float]) -> str:
    value, low, high = (fixed(end, 3) for end in interval)
    return f"{value} [{low} to {high}]"


def _apart(rows: Sequence[Row]) -> Iterator[str]:
    """Say of which rows the paper's numbers are kept away."""
    ours = {row["model"] for row in rows if row["paper_model"]}
    beside = {row["model"] for row in rows if known(row["paper_top5"]) is not None}
    if ours - beside:
        yield (
            f"The paper's numbers are not set beside {', '.join(sorted(ours - beside))}: they are "
            "of translation, by block heads that read the layer before the last."
        )
    if any(row["task"] == "open_ended" for row in rows):
        yield (
            "The text is open-ended, that of the paper's table is translation (IWSLT 2017 de-en): "
            "give pairs with --text PAIRS.jsonl (fields source and target)."
        )


def warnings(document: Row) -> list[dict[str, str]]:
    """Return code and message of what the samples and the training are too few for."""
    n_asked, samples, training = document["samples"], [], []
    for row in {_place(row): row for row in document["rows"]}.values():
        where = f"{row['model']} on {row['text']}"
        few = row["n_samples"]
        if row.get("positions") == SETS[0] and few < n_asked:
            samples.append(f"{where}: {few} of the {n_asked} samples asked for were there.")
        if row.get("positions") == SETS[1] and few < 2:
            samples.append(f"{where}: one sample has no interval; the one shown is empty.")
    head = numbers.source_of("table_1")
    for run in document["runs"]:
        if run["steps"] * run["step_blocks"] < head["n_steps"] * head["n_step_samples"] / FEW:
            training.append(
                f"{run['run']} was trained for {run['steps']:,} steps of {run['step_blocks']} "
                f"blocks, the paper's heads for {head['n_steps']:,} of {head['n_step_samples']}: "
                "give more text, or more --max-tokens, before levels are compared."
            )
    kinds = {"few-samples": samples, "few-steps": training}
    return [{"code": code, "message": " ".join(told)} for code, told in kinds.items() if told]


def _place(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("run", "model", "text", "positions"))

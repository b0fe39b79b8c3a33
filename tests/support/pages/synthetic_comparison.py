"""A plausible comparison of runs that never were, of any size, for testing its page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from probekit.reports import render_comparison
from support.pages.synthetic_run import HOSTILE, Size, results

_PER_RUN = ("offsets", "specialization", "marginal", "branching")
_SMALLEST = 400_000
CEILINGS = {"model", "marginal", "marginal-adapted"}


SMALL = Size(layers=4, offsets=3, seeds=0, families=("linear",))


@dataclass(frozen=True)
class Ladder:
    """How large the comparison is."""

    runs: int = 3
    size: Size = SMALL
    mixed: bool = False  # tokenizers differ
    hostile: bool = False
    same_text: bool = True


def document(ladder: Ladder | None = None) -> dict[str, Any]:
    """Return a comparison of schema probekit.comparison/1."""
    ladder = ladder or Ladder()
    made = {name: _run(name, number, ladder) for number, name in enumerate(_names(ladder))}
    found: dict[str, Any] = {
        "schema": "probekit.comparison/1",
        "runs": [_said(name, run) for name, run in made.items()],
        "metric": "bpb" if ladder.mixed else "nats",
        "same": {
            "tokenizer": not ladder.mixed,
            "text": ladder.same_text,
            "target": True,
            "offsets": True,
        },
        "verdict": [
            "Larger models know more of t+2, and their best layer gives away no larger share of it."
        ],
        "scores": [row for name, run in made.items() for row in _scores(name, run)],
        "headlines": [row for name, run in made.items() for row in _headlines(name, run, ladder)],
        "configuration": [
            {"key": "settings.block", "values": {name: f"{n}5" for n, name in enumerate(made)}}
        ],
        "warnings": [{"code": "short-text", "message": "The test text has 44 documents."}],
    }
    for part in _PER_RUN:
        found[part] = [row | {"run": name} for name, run in made.items() for row in run[part]]
    found["differences"] = _differences(found["headlines"], list(made)) if ladder.same_text else []
    found = _in_bytes(found) if ladder.mixed else found
    return _poison(found) if ladder.hostile else found


def _names(ladder: Ladder) -> list[str]:
    if ladder.hostile:
        return [f"run {number} {HOSTILE}" for number in range(ladder.runs)]
    return [f"tiny-{number + 1}" for number in range(ladder.runs)]


def _run(name: str, number: int, ladder: Ladder) -> dict[str, Any]:
    """Return the results of one run: the larger, the more it knows."""
    size = replace(ladder.size, hostile=ladder.hostile)
    run = results(size)
    run["model"] |= {
        "name": name,
        "n_parameters": _SMALLEST * 2**number,
        "tokenizer": {"fingerprint": f"{number if ladder.mixed else 0}"},
    }
    for row in run["scores"]:
        depth = 1.5 if row["readout"] in CEILINGS else (row["layer"] or 0) / size.layers
        gain = 0.04 * number * depth
        for end in ("", "_low", "_high"):
            for metric, sign in (("nats", -1), ("bits", 1.4), ("top1", 0.3), ("top5", 0.2)):
                row[metric + end] += sign * gain
            row["bpb" + end] = row["nats" + end] / 2.29
            if row["share" + end] is not None:
                row["share" + end] -= 0.06 * number * depth
        row["depth"] = None if row["layer"] is None else row["layer"] / size.layers
    return run


def _said(name: str, run: dict[str, Any]) -> dict[str, Any]:
    kept = {part: run[part] for part in ("model", "run", "text", "verdict", "warnings")}
    return {"name": name, "folder": f"runs/{name}", **kept}


def _scores(name: str, run: dict[str, Any]) -> list[dict[str, Any]]:
    size = run["model"]["n_parameters"]
    return [
        row | {"run": name, "n_parameters_model": size}
        for row in run["scores"]
        if row["split"] == "test"
    ]


def _headlines(name: str, run: dict[str, Any], ladder: Ladder) -> list[dict[str, Any]]:
    """Return headline numbers, from the run's rows where these hold them."""
    rows = []
    marginal = {(r["offset"], r["domain"]): r for r in run["marginal"]}
    whole = {
        r["domain"]: r
        for r in run["branching"]
        if (r["positions_from"], r["positions_to"]) == (0, 255)
    }
    for special in run["specialization"]:
        offset, domain = special["offset"], special["domain"]
        best = _score(run, "linear", special["best_layer"], (offset, domain))
        ceiling = _score(run, "model" if offset == 1 else "marginal", None, (offset, domain))
        place = {"run": name, "n_parameters": run["model"]["n_parameters"]}
        place |= {"domain": domain, "offset": offset}
        found = [_taken(best, metric, f"best_probe_{metric}") for metric in ("top1", "bits")]
        found += [_taken(ceiling, metric, f"ceiling_{metric}") for metric in ("top1", "bits")]
        found += [_taken(special, metric, metric) for metric in ("recovered", "forgotten_bits")]
        found += [_taken(special, "best_depth", "best_depth")]
        branched = marginal.get((offset, domain), {})
        found += [_taken(branched, m, m) for m in ("retained_mass", "branches_mean", "nats_error")]
        if offset == 1:
            loss = "bpb" if ladder.mixed else "nats"
            found += [_taken(ceiling, m, f"next_token_{m}") for m in (loss, "top1")]
            found += [_taken(whole[domain], "tokens_mean", "nucleus_tokens")]
            found += [_taken(whole[domain], "entropy_nats", "next_token_entropy")]
        if ladder.mixed:
            found += [_taken(best, "bpb", "best_probe_bpb")]
        rows += [place | row for row in found if row["value"] is not None]
    return rows


def _score(
    run: dict[str, Any], readout: str, layer: int | None, where: tuple[int, str]
) -> dict[str, Any]:
    wanted = (readout, layer, *where)
    rows = [r for r in run["scores"] if r["split"] == "test"]
    rows = [r for r in rows if (r["readout"], r["layer"], r["offset"], r["domain"]) == wanted]
    return rows[-1] if rows else {}


def _taken(row: dict[str, Any], metric: str, name: str) -> dict[str, Any]:
    ends = {end: row.get(f"{metric}_{end}") for end in ("low", "high")}
    return {"quantity": name, "value": row.get(metric), **ends}


def _differences(headlines: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return differences of every second quantity: the wider its interval, the less certain."""
    several = len(names) > 6
    pairs = [
        (later, first)
        for number, later in enumerate(names)
        for first in (names[:1] if several else names[:number])
        if later != first
    ]
    by_key = {(r["run"], r["domain"], r["offset"], r["quantity"]): r for r in headlines}
    rows = []
    for later, first in pairs:
        for (run, *key), row in by_key.items():
            other = by_key.get((first, *key))
            if run == later and other and row["low"] is not None:
                value, half = row["value"] - other["value"], (row["high"] - row["low"]) / 2
                ends = {"value": value, "low": value - half, "high": value + half}
                names_of = dict(zip(("domain", "offset", "quantity"), key, strict=True))
                how = {"paired": True, "same": False}
                rows.append({"run": later, "reference": first, **names_of, **ends, **how})
    return rows


def _in_bytes(found: dict[str, Any]) -> dict[str, Any]:
    """Leave what runs of several tokenizers have in common."""
    for part in ("headlines", "differences"):
        rows = [row for row in found[part] if row["offset"] == 1]
        found[part] = [row for row in rows if row["quantity"].endswith("_bpb")]
    found["scores"] = [row for row in found["scores"] if row["offset"] == 1]
    return found | {part: [] for part in _PER_RUN}


def _poison(found: dict[str, Any]) -> dict[str, Any]:
    """Put hostile text where the parts above hold none of it yet."""
    found["verdict"] = [HOSTILE]
    found["warnings"] = [{"code": HOSTILE, "message": HOSTILE}]
    names = {run["name"] for run in found["runs"]}
    found["configuration"] = [{"key": HOSTILE, "values": dict.fromkeys(sorted(names), HOSTILE)}]
    for run in found["runs"]:
        run["folder"] = HOSTILE
    for row in (found["headlines"][0], found["differences"][0]):
        row["quantity"] = HOSTILE
    return found


_TINY = Size(layers=2, offsets=2, domains=("prose",), seeds=0, families=("linear",))
_PAGES = {
    "plain": Ladder(runs=3, size=replace(_TINY, layers=3, domains=("prose", "code"))),
    "hostile": Ladder(runs=2, size=_TINY, hostile=True),
    "mixed": Ladder(runs=2, size=_TINY, mixed=True),
}


def given(name: str) -> dict[str, Any]:
    """Return the comparison of one of the pages that tests share, without top-5: it is quicker."""
    found = document(_PAGES[name])
    for row in found["scores"]:
        row["top5"] = None
    return found


@cache
def page(name: str) -> str:
    """Return one of the pages that tests share."""
    return render_comparison(given(name))

"""Plausible results of a run that never was, of any size, for testing the report."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from support.pages import synthetic_breakdown, synthetic_contrasts
from support.pages.synthetic_facts import branching, checks, marginal, offsets

HOSTILE = (
    '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked=1">'
    "\u202eRTL\u200f \x00 NUL \x1b[31m 'single' \"double\" $x_{1 {{ 7*7 }} \ud800 &amp;"
)


PARAMETERS = {"linear": 37_000, "concat": 258_000, "linear-full": 395_000}


@dataclass(frozen=True)
class Size:
    """How large the run is."""

    layers: int = 6
    offsets: int = 4
    domains: Sequence[str] = ("prose", "code")
    marginal: bool = True
    hostile: bool = False
    seed: int = 0
    seeds: int = 1  # 0: no controls
    families: Sequence[str] = ("linear", "concat")
    target: str = "text"
    codelength: bool = False


@dataclass(frozen=True)
class _Point:
    readout: str
    layer: int | None
    offset: int
    domain: str
    positions: str


def results(size: Size | None = None) -> dict[str, Any]:
    """Return the content of a results.json of schema probekit.results/4."""
    size = size or Size()
    run: dict[str, Any] = {
        "schema": "probekit.results/4",
        "run": _run(size),
        "model": _model(size),
        "text": [_text(domain, size) for domain in size.domains],
        "scores": _scores(size),
        "marginal": marginal(size.domains, size.offsets) if size.marginal else [],
        "branching": branching(size.domains),
        "specialization": _specialization(size),
        "checks": checks(),
        "warnings": _warnings(size),
        "verdict": [
            "The hidden layers see one token past the next, and little further.",
            "At t+2 the best layer is 4 of 6; the last layer reads less.",
            "Drafting two tokens at once looks worthwhile; drafting four does not.",
        ],
        "offsets": offsets(size.offsets, size.layers, size.marginal),
        "calibration": list(
            synthetic_breakdown.calibration(size.offsets, size.layers, size.marginal)
        ),
        "classes": list(synthetic_breakdown.classes(size.domains, size.offsets, size.seed)),
    }
    synthetic_contrasts.add(run, size.seeds, size.codelength or size.hostile)
    return _poison(run) if size.hostile else run


def _poison(run: dict[str, Any]) -> dict[str, Any]:
    """Put hostile text wherever a run carries text of its user."""
    domain = f"prose {HOSTILE}"
    first = run["text"][0]["domain"]
    compared = ("controls", "families", "sequences", "learning")
    for part in ("text", "scores", "marginal", "branching", "specialization", *compared):
        for row in run[part]:
            row["domain"] = domain if row["domain"] == first else row["domain"]
            if "verdict" in row:
                row["verdict"] += HOSTILE
    run["model"] |= {"name": HOSTILE, "repository": HOSTILE}
    run["run"] |= {"command": HOSTILE, "settings": {HOSTILE: HOSTILE}}
    run["verdict"] = [HOSTILE]
    run["warnings"] = [{"code": HOSTILE, "message": HOSTILE}]
    run["offsets"][0] |= dict.fromkeys(("best", "alike", "read", "known", "late_loss"), HOSTILE)
    run["checks"][0] |= {"name": HOSTILE, "message": HOSTILE}
    strange = {"readout": f"head:{HOSTILE}", "layer": 1, "offset": 2}
    run["scores"].append(run["scores"][0] | strange)
    for part in ("families", "sequences"):
        run[part].append(run[part][0] | strange | {"domain": domain})
    run["codelength"].append(run["codelength"][0] | strange)
    run["calibration"].append(run["calibration"][0] | strange)
    run["classes"] += [row | {"class": HOSTILE} for row in run["classes"][:1]]
    return run


def _nats(point: _Point, size: Size) -> float:
    """Cross-entropy shaped as real ones are: falling with depth, then rising again."""
    shift = {"prose": 0.0, "code": -0.6}.get(point.domain, -0.3)
    unigram = 5.6 + shift
    know: float = 2.9 * 0.52 ** (
        point.offset - 1
    )  # what the model knows, in nats above the unigram
    skip: float = 1.5 * 0.55 ** (point.offset - 1)
    depth = (point.layer or 0) / size.layers
    peak = 1.0 if point.offset == 1 else 0.7
    climb = math.sin(min(depth / peak, 1.0) * math.pi / 2) - max(0.0, depth - peak) * 0.45
    known: dict[str, float] = {
        "model": know,
        "unigram": 0.0,
        "skip-bigram": skip,
        "marginal": know,
        "marginal-adapted": know + 0.03,
        "linear": skip * 0.93 + (know * 0.97 - skip * 0.93) * climb,
        "linear-full": skip * 0.9 + (know - skip * 0.9) * climb,
        "concat": know * 0.99,
        "lens": know - 9.0 * (1 - depth) ** 1.5 - 2.5 * (point.offset - 1),
    }
    return unigram - known.get(point.readout, skip)


def _row(point: _Point, size: Size, chance: random.Random) -> dict[str, Any]:
    unigram = _nats(_Point("unigram", None, point.offset, point.domain, "all"), size)
    few = point.positions == "marginal"
    width = 0.09 if few else 0.03
    nats = _nats(point, size) + chance.gauss(0, width / 6)
    top1 = min(0.95, math.exp(-0.42 * nats))
    top5 = min(0.98, top1 * 1.75)
    bits = (unigram - nats) / math.log(2)
    kl = max(0.0, nats - _nats(_Point("model", None, 1, point.domain, "all"), size))
    row: dict[str, Any] = {
        "readout": point.readout,
        "site": "resid_post" if point.layer is not None else None,
        "layer": point.layer,
        "offset": point.offset,
        "blind": True,
        "target": size.target,
        "domain": point.domain,
        "split": "test",
        "positions": point.positions,
        "seed": size.seed,
        "n_positions": 1000 if few else 24_310 - 90 * point.offset,
        "n_documents": 31 if few else 88,
        "n_bytes": 3100 if few else 81_000,
        "n_parameters": PARAMETERS.get(point.readout, 0),
        "bpb": nats / math.log(2) / 3.3,
        "kl_nats": kl if point.readout == "lens" and point.offset == 1 else None,
        "converged": True if point.readout in PARAMETERS else None,
    }
    skip = _nats(_Point("skip-bigram", None, point.offset, point.domain, "all"), size)
    wide = width / math.log(2)
    spread = {"nats": width, "bits": wide, "top1": width / 5, "top5": width / 5}
    spread["bits_given_token"] = wide
    known = {"nats": nats, "bits": bits, "top1": top1, "top5": top5}
    known["bits_given_token"] = (skip - nats) / math.log(2)
    if few and point.readout == "linear":
        known["share"] = (skip - nats) / (skip - _nats(replace(point, readout="marginal"), size))
        spread["share"] = 0.04
    row |= dict.fromkeys(("share", "share_low", "share_high"))
    for name, value in known.items():
        low = value - spread[name]
        row |= {name: value, f"{name}_low": low if "bits" in name else max(low, 0.0)}
        row[f"{name}_high"] = value + spread[name]
    return row


def _scores(size: Size) -> list[dict[str, Any]]:
    chance = random.Random(size.seed)
    rows = []
    for domain in ("all", *size.domains):
        for positions in ("all", "marginal") if size.marginal else ("all",):
            for offset in range(1, size.offsets + 1):
                for readout, layer in _readouts(size, offset, positions):
                    point = _Point(readout, layer, offset, domain, positions)
                    rows.append(_row(point, size, chance))
    for row in [row for row in rows if row["positions"] == "all"]:
        if row["readout"] in {"unigram", *size.families}:
            rows.append(row | {"split": "validation", "n_positions": 25_000})
    return rows


def _readouts(size: Size, offset: int, positions: str) -> list[tuple[str, int | None]]:
    layers = range(size.layers + 1)
    found: list[tuple[str, int | None]] = [("unigram", None), ("skip-bigram", None)]
    found += [("model", None)] if offset == 1 else []
    names = ("lens", *(name for name in size.families if name != "concat"))
    found += [(name, layer) for name in names for layer in layers]
    found += [("concat", None)] if "concat" in size.families else []
    if positions == "marginal" and offset > 1:
        found += [("marginal", None), ("marginal-adapted", None)]
    return found


def _specialization(size: Size) -> list[dict[str, Any]]:
    return [
        _special(offset, domain, size)
        for domain in ("all", *size.domains)
        for offset in range(1, size.offsets + 1)
    ]


def _special(offset: int, domain: str, size: Size) -> dict[str, Any]:
    best = size.layers if offset == 1 else round(size.layers * 0.7)
    row: dict[str, Any] = {"offset": offset, "domain": domain, "best_layer": best}
    row["best_depth"] = best / size.layers
    row["like_best"] = sorted({max(best - 1, 0), best})
    row["late_rival"], row["late_margin_bits"] = min(best, size.layers - 1), 0.05
    known = offset > 1 and size.marginal
    for name, value, width, there in (
        ("forgotten_bits", 0.21 / offset if offset > 1 else 0.0, 0.03, True),
        ("read_bits", 1.2 - 0.2 * offset, 0.1, known),
        ("room_bits", 2.4 - 0.2 * offset, 0.2, known),
        ("recovered", 0.86 - 0.1 * offset, 0.05, known),
        ("recovered_adapted", 0.83 - 0.1 * offset, 0.05, known),
        ("adaptation_nats", 0.012, 0.006, offset == 1),
    ):
        row[name] = value if there else None
        row[f"{name}_low"] = value - width if there else None
        row[f"{name}_high"] = value + width if there else None
    row["floor"], row["floor_layer"] = ("linear", 0) if offset > 2 else ("skip-bigram", None)
    row["saturation_layer"] = max(1, size.layers - 1) if offset == 1 else None
    row["verdict"] = "cannot tell" if offset in {1, 4} else "later layers lose some"
    return row


def _run(size: Size) -> dict[str, Any]:
    return {
        "id": "tiny-3fa92c",
        "created": "2025-03-02T10:14:00Z",
        "command": "probekit analyze --model tiny --offsets 4",
        "seconds": 41.7,
        "stage_seconds": {"load": 1.2, "capture": 6.1, "probes": 24.9, "marginal": 8.3},
        "seed": size.seed,
        "device": "cpu",
        "dtype": "float32",
        "separator": "eos",
        "attention": "sdpa",
        "versions": {"probekit": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "settings": {
            "model": "tiny",
            "offsets": size.offsets,
            "block": 256,
            "nucleus": 0.99,
            "max_branches": 64,
            "target": size.target,
            "probe": list(size.families),
            "seeds": max(size.seeds, 1),
            "controls": "default" if size.seeds else "none",
            "codelength": size.codelength,
        },
    }


def _model(size: Size) -> dict[str, Any]:
    return {
        "name": "tiny",
        "repository": "bundled/tiny-m",
        "revision": None,
        "architecture": "LlamaForCausalLM",
        "n_layers": size.layers,
        "d_model": 192,
        "vocab_size": 2048,
        "n_parameters": 1_530_000,
        "fingerprint": "9f2c" * 16,
        "tokenizer": "4b1d" * 16,
        "softcap": None,
    }


def _text(domain: str, size: Size) -> dict[str, Any]:
    return {
        "domain": domain,
        "source": f"the standard library: {domain}",
        "sha256": f"{size.seed:02x}" * 32,
        "documents": {"train": 410, "validation": 52, "test": 44},
        "tokens": {"train": 201_400, "validation": 25_100, "test": 24_900},
        "whole_tokens": 903_200,
        "shortened": 377,
        "lost_share": 0.0002,
        "unknown_share": 0.0,
        "copied": 0.0125,
    }


def _warnings(size: Size) -> list[dict[str, str]]:
    if not size.marginal:
        return [{"code": "no-ceiling", "message": "Marginalization was off: there is no ceiling."}]
    return [
        {
            "code": "loose-ceiling",
            "message": "At offsets 3 and 4 the branches kept cover less than 90 % of the mass.",
        }
    ]

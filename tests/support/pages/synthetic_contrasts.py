"""The parts of a run that never was in which readouts are set against each other."""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]


def add(run: Row, seeds: int, codelength: bool) -> None:
    """Put controls, families, sequences and codelength into a run, made of its scores."""
    domains = list(dict.fromkeys(row["domain"] for row in run["scores"]))
    run["scores"] += list(_control_scores(run, seeds))
    run["controls"] = list(_controls(run))
    run["families"] = list(_families(run, domains))
    run["sequences"] = list(_sequences(run))
    run["codelength"] = list(_codelength(run)) if codelength else []
    run["learning"] = list(_learning(run))


def _own(run: Row, name: str, positions: str = "all", split: str = "test") -> Iterator[Row]:
    for row in run["scores"]:
        if (row["readout"], row["positions"], row["split"]) == (name, positions, split):
            yield row


def _controlled(run: Row) -> tuple[int, ...]:
    last = run["model"]["n_layers"]
    return tuple(dict.fromkeys((max(1, last // 2), last)))


def _control_scores(run: Row, seeds: int) -> Iterator[Row]:
    target, first = run["run"]["settings"]["target"], run["run"]["seed"]
    chance = random.Random(first + 1)
    positions = {row["positions"] for row in run["scores"]}
    for split, where in [("test", name) for name in sorted(positions)] + [("validation", "all")]:
        for row in list(_own(run, "linear", where, split)):
            if row["offset"] == 2 and row["layer"] in _controlled(run):
                for seed in range(first, first + seeds):
                    shift = chance.gauss(0, 0.03)
                    worse = {name: row[name] + 0.4 + shift for name in _ENDS["nats"]}
                    worse |= {
                        name: row[name] - 0.4 - shift
                        for bits in ("bits", "bits_given_token")
                        for name in _ENDS[bits]
                    }
                    worse |= {name: row[name] * 0.7 + shift / 9 for name in _ENDS["top1"]}
                    yield row | worse | {"readout": "random", "seed": seed, "target": target}
                    none = dict.fromkeys((*_ENDS["bits"], *_ENDS["bits_given_token"]))
                    learned = {name: row[name] * 0.5 + shift for name in _ENDS["top1"]}
                    learned |= {name: row[name] + 0.5 + shift for name in _ENDS["nats"]}
                    changed = {"readout": "control", "seed": seed, "target": "control"}
                    yield row | none | learned | changed


def _learning(run: Row) -> Iterator[Row]:
    """Yield losses of the whole run's best probes and floors after a quarter, a half and all."""
    for special in run["specialization"]:
        offset, domain = special["offset"], special["domain"]
        for positions in ("all", "marginal") if offset > 1 else ():
            for role, layer, nats in (("floor", 0, 5.0), ("best", special["best_layer"], 4.5)):
                for part, one_in in enumerate((4, 2, 1)):
                    loss = nats + 0.1 * offset + (0.3, 0.1, 0.0)[part]
                    read = 0.72 if role == "best" else None
                    yield {
                        "domain": domain, "positions": positions, "offset": offset, "role": role,
                        "readout": "linear", "layer": layer, "one_in": one_in,
                        "n_train": 161_120 // one_in, "positions_per_value": 9.8 / one_in,
                        "train_nats": loss - 0.4,
                        **_near("nats", loss),
                        **_near("gain_nats", (None, 0.2, 0.1)[part]),
                        **_near("doubled_nats", loss - 0.05 if one_in == 1 else None),
                        **_near("read_bits", read),
                        **_near("read_gain_bits", 0.01 if read and part else None),
                    }  # fmt: skip


def _near(name: str, value: float | None) -> Row:
    ends = (None, None) if value is None else (value - 0.02, value + 0.02)
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}


_ENDS = {
    name: (name, f"{name}_low", f"{name}_high")
    for name in ("nats", "bits", "bits_given_token", "top1")
}


def _with_ends(values: dict[str, float | None], width: float = 0.02) -> Row:
    row: Row = {}
    for name, value in values.items():
        row[name] = value
        row[f"{name}_low"] = None if value is None else value - width
        row[f"{name}_high"] = None if value is None else value + width
    return row


def _controls(run: Row) -> Iterator[Row]:
    rows = {
        (row["readout"], row["layer"], row["domain"], row["seed"]): row
        for name in ("linear", "random", "control")
        for row in _own(run, name)
        if row["offset"] == 2
    }
    first = run["run"]["seed"]
    for readout, layer, domain, seed in rows:
        if readout == "control":
            probe, floor, control = (
                rows["linear", layer, domain, first]["nats"],
                rows["linear", 0, domain, first]["nats"],
                rows["control", layer, domain, seed]["nats"],
            )
            drawn = [row for key, row in rows.items() if key[:3] == ("random", layer, domain)]
            untrained = sum(row["nats"] for row in drawn) / len(drawn)
            place = {"offset": 2, "domain": domain, "layer": layer, "seed": seed}
            whole = domain == "all" or len(run["text"]) == 1
            values = {
                "contextual_bits": (control - probe) / math.log(2) if whole else None,
                "overfit_bits": (control - floor) / math.log(2) if whole else None,
                "random_bits": sum(row["bits"] for row in drawn) / len(drawn),
                "bits_over_random": (untrained - probe) / math.log(2),
            }
            yield place | _with_ends(values) | {"kept_share": 0.05, "random_draws": len(drawn)}


def _families(run: Row, domains: Sequence[str]) -> Iterator[Row]:
    names = [name for name in ("linear", "concat", "linear-full") if any(_own(run, name))]
    for domain in domains:
        best: dict[tuple[str, int], Row] = {}
        for name in names:
            for row in _own(run, name):
                if row["domain"] == domain:
                    key = name, row["offset"]
                    best[key] = min(best.get(key, row), row, key=lambda row: float(row["nats"]))
        for (name, offset), row in best.items():
            gain = (best["linear", offset]["nats"] - row["nats"]) / math.log(2)
            place = {"readout": name, "layer": row["layer"], "offset": offset}
            values = {"nats": row["nats"], "top1": row["top1"], "bits_over_linear": gain}
            yield place | {"domain": domain, "seed": row["seed"]} | _with_ends(values)


def _sequences(run: Row) -> Iterator[Row]:
    positions = (
        "marginal" if any(row["positions"] == "marginal" for row in run["scores"]) else "all"
    )
    joint: dict[tuple[str, int | None, str, int], float] = {}
    nats: dict[tuple[str, int | None, str, int], float] = {}
    for row in sorted(run["scores"], key=lambda row: int(row["offset"])):
        name, layer, offset, domain = (row[k] for k in ("readout", "layer", "offset", "domain"))
        scored = (row["positions"], row["split"]) == (positions, "test")
        if not scored or offset < 2 or name in ("random", "control"):
            continue
        before = joint.get((name, layer, domain, offset - 1), 1.0)
        joint[name, layer, domain, offset] = before * row["top1"]
        spent = nats.get((name, layer, domain, offset - 1), 0.0)
        nats[name, layer, domain, offset] = spent + row["nats"]
        place = {"readout": name, "layer": layer, "offset": offset, "domain": domain}
        yield (
            place
            | {"target": run["run"]["settings"]["target"]}
            | _with_ends(
                {
                    "top1": row["top1"],
                    "joint": before * row["top1"],
                    "conditional": row["top1"],
                    "accepted": sum(
                        joint[name, layer, domain, k]
                        for k in range(2, offset + 1)
                        if (name, layer, domain, k) in joint
                    ),
                    "joint_nats": spent + row["nats"],
                    "total_correlation": 0.3 * offset if name.startswith("marginal") else None,
                }
            )
        )


def _codelength(run: Row) -> Iterator[Row]:
    for row in _own(run, "linear"):
        if row["domain"] == run["scores"][0]["domain"]:
            n = 20_000 - 200 * row["offset"]
            online = n * (row["nats"] / math.log(2) + 0.8)
            yield {
                "readout": "linear",
                "layer": row["layer"],
                "offset": row["offset"],
                "blind": True,
                "n": n,
                "n_start": n // 1000,
                "uniform_bits": n * 11.0,
                "unigram_bits": n * 8.1,
                "online_uniform_bits": online + 40.0,
                "online_unigram_bits": online,
                "bits_per_target": online / n,
                "compression": n * 11.0 / (online + 40.0),
                "compression_to_unigram": n * 8.1 / online,
            }

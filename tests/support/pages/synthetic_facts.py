"""What results say that does not hang on the size of a run: plausible, and never measured."""

from collections.abc import Sequence
from typing import Any


def marginal(domains: Sequence[str], horizon: int) -> list[dict[str, Any]]:
    return [
        {
            "readout": readout,
            "offset": offset,
            "domain": domain,
            "route": "nucleus",
            "branches_mean": 21.4 * (offset - 1),
            "branches_max": 64,
            "retained_mass": 1 - 0.06 * (offset - 1) ** 1.2,
            "tv_bound_mean": 0.06 * (offset - 1) ** 1.2,
            "tv_bound_max": min(1.0, 0.4 * (offset - 1)),
            "nats_error": 0.03 * (offset - 1) ** 1.2,
            "nats_at_most": 2.0 * offset,
            "n_positions": 1000,
        }
        for readout in ("marginal", "marginal-adapted")
        for domain in ("all", *domains)
        for offset in range(2, horizon + 1)
    ]


def branching(domains: Sequence[str]) -> list[dict[str, Any]]:
    """Return how many tokens the next one might be: fewer, the more was read before it."""
    rows = []
    for domain in ("all", *domains):
        shift = {"prose": 30.0, "code": -30.0}.get(domain, 0.0)
        for part in range(-1, 8):
            first, last = (0, 255) if part < 0 else (32 * part, 32 * part + 31)
            tokens, nats = 150 + shift - 4 * part, 3.4 + shift / 60 - 0.1 * part
            row = {"domain": domain, "positions_from": first, "positions_to": last}
            row |= {"nucleus": 0.99, "n_positions": 24_000 if part < 0 else 3000}
            row |= {"n_documents": 88, "tokens_median": round(tokens / 2)}
            for name, value, width in (("tokens_mean", tokens, 9), ("entropy_nats", nats, 0.12)):
                row |= {name: value, f"{name}_low": value - width, f"{name}_high": value + width}
            rows.append(row)
    return rows


def checks() -> list[dict[str, Any]]:
    return [
        {
            "name": "decoding",
            "passed": True,
            "measured": 3.1e-6,
            "allowed": 1e-4,
            "message": "Decoding the last resid_post gives the model's logits (largest gap).",
        },
        {
            "name": "convergence",
            "passed": True,
            "measured": 0.004,
            "allowed": 0.01,
            "message": "Training objective above its minimum, in nats, in the worst cell.",
        },
    ]


def offsets(horizon: int, layers: int, marginal: bool) -> list[dict[str, Any]]:
    """Return what was found at each offset, in cells."""
    return [
        {
            "offset": offset,
            "best": f"{layers if offset == 1 else round(layers * 0.7)} of {layers}",
            "alike": f"layers 0 and {layers} read it alike" if offset == 2 else "",
            "read": f"{1.2 - 0.1 * offset:.2f} bits [0.51, 1.30]",
            "floor": "the probe at layer 0" if offset > 2 else "skip-bigram",
            "known": "2.39 bits" if marginal or offset == 1 else "not measured",
            "share": "31 % [25 %, 137 %], as much as all of it" if marginal else "",
            "late_loss": f"at most 0.01{offset} bits are lost after layer 1",
            "top1": {
                "floor": 0.05,
                "best": 0.085,
                "best_low": 0.06,
                "best_high": 0.11,
                "ceiling": 0.217 if marginal or offset == 1 else None,
            },
        }
        for offset in range(1, horizon + 1)
    ]

"""Which strategies of training heads take part in an order.

A linear probe is convex and fitted to its minimum; a block head can start as it. A head behind
the probe of the layer that it reads says how far its training came, not what can be read there;
nor does one whose last step was its best: validation was still falling when its steps ran out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probekit.readout import LINEAR

# A head that starts as the probe is computed in another order, and may be rounded more coarsely.
ROUNDING_NATS = 0.002


@dataclass(frozen=True)
class Standing:
    """How the training of a strategy ended, at one offset.

    Attributes:
        nats: Cross-entropy on the validation text, of several seeds the mean, or None where
            there is no head.
        reason: Why it takes part in no order; empty where it does.
    """

    nats: float | None
    reason: str = ""


def standings(
    trained: Mapping[str, Mapping[str, Any]], probe: Mapping[str, Any], offset: int
) -> dict[str, Standing]:
    """Return how the linear probe and each training stand at an offset.

    Args:
        trained: Notes of each training by strategy.
        probe: `layer` of the linear probe of the layer read, and its cross-entropy on the same
            validation positions, `validation`, by offset.
        offset: The offset, beyond the first.

    Returns:
        By name, the probe first.
    """
    fitted = {LINEAR: Standing(probe["validation"][str(offset)])}
    return fitted | {name: _standing(n, probe, str(offset)) for name, n in trained.items()}


def _standing(notes: Mapping[str, Any], probe: Mapping[str, Any], offset: str) -> Standing:
    runs = [notes, *notes.get("again", ())]
    if offset not in notes["validation"]:
        return Standing(None)
    nats = sum(run["validation"][offset] for run in runs) / len(runs)
    behind = nats - probe["validation"][offset]
    if behind > ROUNDING_NATS:
        return Standing(
            nats,
            f"trained too little: behind the linear probe of layer {probe['layer']}, by "
            f"{behind:.3f} nats on validation text",
        )
    step = notes["best_steps"][offset]
    if step == max(row["step"] for row in notes["curve"]):
        return Standing(nats, f"its best step is the last, {step:,}")
    return Standing(nats)

"""From what a removal costs to a verdict: used, not used, cannot tell.

Random parts differ, and half of them cost more than they do on average. So what is read is held
against one more of them, whose cost is as uncertain as their spread leaves it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.causal.effects import ALIKE, DRAWS, OTHER, POSITIONS, RANDOM, READ, WHOLE
from probekit.scoring.rates import DocumentSums, Rate, Rates

USED, UNUSED, UNKNOWN, NOTHING = "used", "not used", "cannot tell", "nothing of its own"
# A cost surely below the larger of these, the latter of what the probe itself loses, is none.
LEAST_NATS, LEAST_SHARE = 0.01, 0.05


def rows(sums: DocumentSums) -> Iterator[dict[str, Any]]:
    """Yield `causal` of results.json: a row a domain and offset of a scored token.

    Args:
        sums: What each removal at one layer, of what is read of one offset, made the model lose:
            a table of `effects`.
    """
    first = sums.table.iloc[0]
    layer, offset, probe_nats = int(first.layer), int(first.read_offset), float(first.probe_nats)
    for domain in sums.groups:
        rates = sums.rates(domain, "test", POSITIONS)
        for scored in range(1, offset + 1):
            yield {
                "layer": layer,
                "offset": offset,
                "scored_offset": scored,
                "domain": domain,
                "rank": int(first["rank"]),
                "variance_share": float(first.variance_share),
                "probe_nats": probe_nats,
                "n_positions": int(rates.n_positions[0]),
                "n_documents": int(rates.n_documents[0]),
            } | _costs(rates, layer, scored, probe_nats, sums.seed)


def _costs(rates: Rates, layer: int, scored: int, probe_nats: float, seed: int) -> dict[str, Any]:
    whole = rates.nats(WHOLE, layer, scored)

    def cost(name: str) -> Rate:
        return rates.nats(name, layer, scored) - whole

    def drawn(kind: str) -> Rate:
        return one_more(np.stack([cost(f"{kind}-{number}") for number in range(DRAWS)]), seed)

    own, random, alike = cost(READ), drawn(RANDOM), drawn(ALIKE)
    beyond = own - max(random, alike, key=lambda each: float(each[0]))
    margin = max(LEAST_NATS, LEAST_SHARE * probe_nats)
    other = cost(OTHER) if rates.has(OTHER, layer, scored) else None
    return (
        rates.columns("nats", own)
        | rates.columns("random_nats", random)
        | rates.columns("alike_nats", alike)
        | rates.columns("other_nats", other)
        | rates.columns("beyond_nats", beyond)
        | {"margin_nats": margin, "verdict": verdict(rates, beyond, margin, probe_nats)}
    )


def one_more(draws: NDArray[np.float64], seed: int) -> Rate:
    """Return the mean of draws, and in each resample of documents what one more draw might give.

    Args:
        draws: Rates of each draw, shape (draws, 1 + resamples), two draws at least.
        seed: Seed of the resampling.

    Source: the prediction interval of one more value, normal: Student's t with n - 1 degrees of
    freedom, times the standard deviation and sqrt(1 + 1 / n).
    """
    n, resamples = len(draws), draws.shape[1] - 1
    rng = np.random.default_rng([seed, n])
    student = rng.normal(size=resamples) * np.sqrt((n - 1) / rng.chisquare(n - 1, size=resamples))
    expected: Rate = draws.mean(axis=0)
    expected[1:] += draws[:, 0].std(ddof=1) * np.sqrt(1 + 1 / n) * student
    return expected


def verdict(rates: Rates, beyond: Rate, margin: float, probe_nats: float) -> str:
    """Return whether the model uses what was taken out.

    Args:
        rates: Of which `beyond` was made.
        beyond: What its removal costs more than that of a random part.
        margin: A cost below which it is not used.
        probe_nats: What its removal costs the probe: where that is nothing, nothing was removed.
    """
    if probe_nats < LEAST_NATS:
        return NOTHING
    _, low, high = rates.summary(beyond)
    if low > 0:
        return USED
    return UNUSED if high < margin else UNKNOWN

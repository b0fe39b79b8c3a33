"""How often intervals cover the truth, on many texts whose truth is known."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from probekit.scoring.intervals import document_bootstrap, effective_documents, interval
from probekit.scoring.rates import METRICS, RESAMPLES, DocumentSums

Array = NDArray[np.float64]

TEXTS = 2_000
SHORTEST, LONGEST = 32, 512

# Nats a position, over the population.
MEANS = {"floor": 5.0, "probe": 4.6, "ceiling": 4.2}
TRUTH = {"nats": 4.6, "difference": 0.4, "recovered": 0.5, "of a part": 0.5}
PART = 8  # positions of a document at which the ceiling of "of a part" is known
# Spread over documents, shared by readouts and their own; over positions the same. What a
# document is about moves readouts together.
SHARED, OWN = 0.6, 0.15
SHARED_NOISE, OWN_NOISE = 2.0, 1.0
NEIGHBOURS = 0.5
# Nats that a document is easier for being e times as long.
EASIER = 0.1
GAMMA = 4


def texts(n_documents: int, seed: int) -> tuple[Array, dict[str, Array]]:
    """Return positions, and sums of nats by readout, each of shape (texts, documents).

    Sums of `PART` positions are named so; they lie apart, so their noise is not correlated.

    Lengths are log-uniform. A document has an effect that is skewed (a gamma variable), one
    of its length, and positions whose noise is correlated with that of their neighbours.
    """
    draw = np.random.default_rng(seed)
    shape = TEXTS, n_documents
    logs = draw.uniform(np.log(SHORTEST), np.log(LONGEST), shape)
    size = np.exp(logs)
    # The mean over positions of a log length, so that the effect of length has mean zero.
    ends = np.array([SHORTEST, LONGEST])
    centre = np.diff(ends * (np.log(ends) - 1))[0] / np.diff(ends)[0]

    def effect(spread: float) -> Array:
        skewed: Array = (draw.gamma(GAMMA, size=shape) - GAMMA) / np.sqrt(GAMMA)
        return spread * skewed

    def noise(spread: float) -> Array:
        # The sum of an autoregressive series is drawn as such: its variance is known.
        r = NEIGHBOURS
        variance = size * (1 + r) / (1 - r) - 2 * r * (1 - r**size) / (1 - r) ** 2
        summed: Array = spread * np.sqrt(variance) * draw.normal(size=shape)
        return summed

    shared = effect(SHARED) - EASIER * (logs - centre)
    shared_noise = noise(SHARED_NOISE)
    part_noise = SHARED_NOISE * np.sqrt(PART) * draw.normal(size=shape)
    sums = {}
    for name, mean in MEANS.items():
        level = mean + shared + effect(OWN)
        own = OWN_NOISE * np.sqrt(PART) * draw.normal(size=shape)
        sums[f"{name}, part"] = PART * level + part_noise + own
        sums[name] = size * level + shared_noise + noise(OWN_NOISE)
    return size, sums


def rates(size: Array, sums: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Return resampled rates, each of shape (resamples, texts)."""
    weights = document_bootstrap(size.shape[1], RESAMPLES, seed)
    sizes = {name: PART * np.ones_like(size) if "part" in name else size for name in sums}
    nats = {name: (weights @ of.T) / (weights @ sizes[name].T) for name, of in sums.items()}
    gain = nats["floor"] - nats["probe"]
    share = gain / (nats["floor"] - nats["ceiling"])
    of_part = gain / (gain + nats["probe, part"] - nats["ceiling, part"])
    return {"nats": nats["probe"], "difference": gain, "recovered": share, "of a part": of_part}


def coverage(n_documents: int, seed: int = 0) -> dict[str, float]:
    """Return the share of texts whose 95 % interval holds the truth."""
    size, sums = texts(n_documents, seed)
    documents = effective_documents(size.T)
    found = {}
    for name, of_text in rates(size, sums, seed).items():
        ends = [interval(*each) for each in zip(of_text.T, documents.tolist(), strict=True)]
        low, high = np.array(ends).T
        found[name] = float(np.mean((low <= TRUTH[name]) & (TRUTH[name] <= high)))
    return found


# With 2,000 texts and one draw of resamples for all, coverage is known to about 0.8 %.
@pytest.mark.parametrize(
    ("n_documents", "least", "most"),
    [(5, 0.85, 0.98), (10, 0.92, 0.98), (20, 0.92, 0.98), (50, 0.93, 0.97)],
)
def test_intervals_cover_the_truth_as_often_as_they_say(
    n_documents: int, least: float, most: float
) -> None:
    found = coverage(n_documents)
    shown = ", ".join(f"{name} {share:.1%}" for name, share in found.items())
    print(f"{n_documents} documents: {shown}")  # noqa: T201 -- pytest -s shows it
    assert set(found) == set(TRUTH)
    assert all(least <= share <= most for share in found.values()), found


def test_an_interval_from_a_tally_is_the_one_that_is_measured_here() -> None:
    n_documents, seed = 12, 3
    size, sums = texts(n_documents, seed)
    rows = [
        (name.removesuffix(", part"), "marginal" if "part" in name else "all", document, n, nats)
        for name, of_text in sums.items()
        for document, nats in enumerate(of_text[0])
        for n in [PART if "part" in name else size[0, document]]
    ]
    names = ["readout", "positions", "document", "n", "nats_sum"]
    table = pd.DataFrame(rows, columns=names).assign(
        layer=pd.array([pd.NA] * len(rows), dtype="Int64"),
        offset=1,
        blind=True,
        split="test",
        seed=seed,
        **{f"{metric}_sum": 0.0 for metric in METRICS if metric != "nats"},
    )
    scored = DocumentSums(table, ["a"] * n_documents, [1.0] * n_documents, seed)
    found = scored.rates("a", "test", "all")
    floor, probe, ceiling = (found.nats(name, None, 1) for name in MEANS)
    made = {"nats": probe, "difference": floor - probe}
    made["recovered"] = made["difference"] / (floor - ceiling)
    part = scored.rates("a", "test", "marginal")
    unread = part.nats("probe", None, 1) - part.nats("ceiling", None, 1)
    made["of a part"] = made["difference"] / (made["difference"] + unread)
    documents = float(effective_documents(size[:1].T)[0])
    for name, rate in rates(size[:1], {k: v[:1] for k, v in sums.items()}, seed).items():
        assert found.summary(made[name])[1:] == pytest.approx(interval(rate[:, 0], documents))

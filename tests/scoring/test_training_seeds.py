"""Means over training seeds: their variance is in the interval, paired between readouts."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from probekit.scoring.intervals import interval, resampled_weights
from probekit.scoring.rates import DocumentSums, Rates

SEEDS = (0.3, -0.1, 0.1)
DOCUMENTS = 40


def rates(nats: Mapping[str, Sequence[float]]) -> Rates:
    """Return the rates of readouts that lose so many nats with each seed, in every document."""
    rows = [
        {
            "readout": name, "layer": None, "offset": 2, "blind": True, "positions": "all",
            "document": document, "n": 10, "nats_sum": 10 * value, "top1_sum": 0.0,
            "top5_sum": 0.0, "joint_sum": 0.0, "joint_nats_sum": 0.0, "seed": seed,
        }
        for name, values in nats.items()
        for seed, value in enumerate(values)
        for document in range(DOCUMENTS)
    ]  # fmt: skip
    table = pd.DataFrame(rows).assign(split="test").astype({"layer": "Int64"})
    sums = DocumentSums(table, ["words"] * DOCUMENTS, [1.0] * DOCUMENTS, averaged=True)
    return sums.rates("words", "test", "all")


def test_seeds_that_differ_widen_the_interval() -> None:
    found = rates({"heads": [5 + x for x in SEEDS], "linear": [5.5]})
    value, low, high = found.summary(found.nats("heads", None, 2))
    assert value == pytest.approx(5 + np.mean(SEEDS))
    half = student.ppf(0.975, 2) * np.std(SEEDS, ddof=1) / np.sqrt(3)
    assert (high - low) / 2 == pytest.approx(half, rel=0.25)
    # What is fitted once has no seeds to vary with.
    assert found.summary(found.nats("linear", None, 2)) == pytest.approx((5.5, 5.5, 5.5))
    assert found.n_documents.tolist() == [DOCUMENTS] * 2


def test_readouts_that_a_seed_moves_alike_differ_as_they_do_with_one() -> None:
    found = rates({"heads": [5 + x for x in SEEDS], "joint": [4.8 + x for x in SEEDS]})
    apart = found.nats("joint", None, 2) - found.nats("heads", None, 2)
    assert found.summary(apart) == pytest.approx((-0.2, -0.2, -0.2))


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_the_interval_of_three_seeds_holds_the_mean(spread: float) -> None:
    draw, held, trials, n = np.random.default_rng(1), 0, 200, 20
    for trial in range(trials):
        values = draw.normal(size=n) + spread * draw.normal(size=(3, 1))
        weights = resampled_weights(n, 3, 1_000, trial)
        low, high = interval(np.einsum("srd,sd->r", weights, values)[1:] / n, float(n))
        held += low <= 0 <= high
    assert held / trials >= 0.91  # one seed, at the last of these spreads: 0.34

"""How far ahead a text is read, where closed forms say what is known of every offset."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from probekit.pipelines.analysis.verdict import findings
from probekit.pipelines.calibration.markov import MarkovChain
from probekit.scoring.rates import DocumentSums
from probekit.scoring.specialization import DomainRates

LAG, FARTHEST, DOCUMENTS, LENGTH, LAYERS = 9, 16, 40, 360, 3
METRICS = ("top1_sum", "top5_sum", "joint_sum", "joint_nats_sum")


def scored(nats: dict[tuple[str, int | None, int], np.ndarray]) -> DocumentSums:
    """Return scores from the mean nats of each cell and document; on validation the same."""
    rows = [
        (*cell, True, positions, document, 100, 100 * value, split)
        for cell, values in nats.items()
        for document, value in enumerate(values)
        for split, positions in (("validation", "all"), ("test", "all"), ("test", "marginal"))
    ]
    names = "readout layer offset blind positions document n nats_sum split"
    table = pd.DataFrame(rows, columns=names.split()).astype({"layer": "Int64"})
    table = table.assign(seed=0, **dict.fromkeys(METRICS, math.nan))
    return DocumentSums(table, ["prose"] * DOCUMENTS, [1.0] * DOCUMENTS)


def rates(sums: DocumentSums) -> DomainRates:
    return DomainRates.of(sums, "prose", LAYERS)


def by_lag() -> tuple[MarkovChain, DocumentSums]:
    """Return a chain, and scores of text in which it goes from each ninth token to the next.

    Each position then knows the token at t+k from the token at t+k-9, or t+k-18: P to the power of
    1 or 2. The current token alone tells that at t+9, where there is nothing beyond it.
    """
    draw = torch.Generator().manual_seed(3)
    chain = MarkovChain((2 * torch.randn(5, 5, generator=draw, dtype=torch.float64)).softmax(-1))
    walks = chain.sample(DOCUMENTS * LAG, LENGTH // LAG, draw).view(DOCUMENTS, LAG, -1)
    texts = walks.transpose(1, 2).reshape(DOCUMENTS, LENGTH)
    nats: dict[tuple[str, int | None, int], np.ndarray] = {}
    for offset in range(1, FARTHEST + 1):
        times = math.ceil(offset / LAG)
        targets, before = texts[:, LAG * times :], texts[:, : -LAG * times]
        knows = -chain.conditional(times)[before, targets].log().mean(dim=1).numpy()
        guess = -chain.stationary[targets].log().mean(dim=1).numpy()
        nats |= {("unigram", None, offset): guess, ("linear", 0, offset): guess + 0.01}
        nats["skip-bigram", None, offset] = knows if offset == LAG else guess
        nats |= {("linear", layer, offset): knows for layer in (1, 3)}
    return chain, scored(nats)


def test_the_horizon_of_a_chain_of_lag_nine_is_where_its_closed_form_ends() -> None:
    chain, sums = by_lag()
    domain = rates(sums)
    exact = {k: chain.exact(math.ceil(k / LAG)) for k in range(1, FARTHEST + 1)}
    assert domain.reach(FARTHEST) == LAG - 1
    for offset in range(2, FARTHEST + 1):
        value, low, high = domain.test.summary(domain.read_bits(offset))
        known = 0.0 if offset == LAG else exact[offset].bits
        assert value == pytest.approx(known, abs=0.03)
        assert low - 0.01 <= known <= high + 0.01
    found = findings(sums, LAYERS, FARTHEST)
    assert found.verdict[0].startswith("Layers see to t+8: of each token from t+2 to t+8")
    assert [row["within"] for row in found.horizon] == [True] * 7 + [False] * 8
    assert domain.reach(8) == 8
    assert "at least to t+8, the farthest" in findings(sums, LAYERS, 8).verdict[0]


def test_noise_is_seldom_read_at_all() -> None:
    draw, reached = np.random.default_rng(0), []
    for _ in range(40):
        guess = draw.normal(4.0, 0.3, DOCUMENTS)
        nats: dict[tuple[str, int | None, int], np.ndarray] = {}
        for offset in range(1, 4):
            nats |= {("unigram", None, offset): guess, ("skip-bigram", None, offset): guess}
            nats["linear", 1, offset] = guess + draw.normal(0, 0.05, DOCUMENTS)
        reached.append(rates(scored(nats)).reach(3))
    assert sum(reach > 1 for reach in reached) <= 4  # expected at most 2.5 % of 40
    assert max(reached) <= 2

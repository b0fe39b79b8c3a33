"""What the read-layer sweep says of a model, from scores whose answer is known."""

import re

import numpy as np
import pandas as pd
import pytest

from probekit.pipelines.head_study.layer_sweep import HEAD, PROBE, Sweep, answer
from probekit.scoring.rates import DocumentSums

DOCUMENTS, POSITIONS = 30, 100
Losses = dict[int, float]


def sweep(probe: Losses, head: Losses, noise: tuple[float, float] = (0.01, 0.01)) -> Sweep:
    """Return a sweep whose readouts lose so many nats by layer, about, in every document.

    `noise` is of the probe and of the heads.
    """
    draw = np.random.default_rng(0)
    rows = [
        {
            "readout": name, "layer": layer, "offset": 2, "blind": True, "positions": "all",
            "document": number, "n": POSITIONS, "top1_sum": 0.0, "top5_sum": 0.0,
            "nats_sum": POSITIONS * (nats + spread * draw.standard_normal()),
            "joint_sum": 0.0, "joint_nats_sum": 0.0,
        }
        for name, losses, spread in ((PROBE, probe, noise[0]), (HEAD, head, noise[1]))
        for layer, nats in losses.items()
        for number in range(DOCUMENTS)
    ]  # fmt: skip
    table = pd.DataFrame(rows).assign(split="test", seed=0).astype({"layer": "Int64"})
    sums = DocumentSums(table, ["words"] * DOCUMENTS, [1.0] * DOCUMENTS)
    validation = {(PROBE, layer): nats for layer, nats in probe.items()}
    validation |= {(HEAD, layer): nats for layer, nats in head.items()}
    return Sweep(sums, validation, {layer: {} for layer in probe})


@pytest.mark.parametrize(
    ("probe", "head", "said"),
    [
        # Nothing is lost, and the head reads half a nat more.
        ({0: 6.0, 1: 5.5, 2: 5.0}, {0: 5.8, 1: 5.1, 2: 4.5}, "nothing is lost: the last layer"),
        # The probe loses half a nat from layer 1 on, heads nothing.
        ({0: 6.0, 1: 5.0, 2: 5.5}, {0: 5.8, 1: 4.6, 2: 4.5}, "So it is still there, only not"),
        # Heads lose as much as the probe.
        ({0: 6.0, 1: 5.0, 2: 5.5}, {0: 5.8, 1: 4.6, 2: 5.1}, "what the probe loses is gone"),
        # Heads lose half of what the probe loses.
        ({0: 6.0, 1: 5.0, 2: 5.6}, {0: 5.8, 1: 4.6, 2: 4.9}, "So part is only not linearly"),
        # Heads lose what the probe never had.
        ({0: 6.0, 1: 5.2, 2: 5.0}, {0: 5.8, 1: 4.4, 2: 4.8}, "do not find in the last layer all"),
        # Heads that found nothing are no witness, though both lose as much.
        ({0: 6.0, 1: 5.0, 2: 5.5}, {0: 6.0, 1: 5.0, 2: 5.5}, "heads that read no more than the"),
        # A head that is worse than the probe that it could be.
        ({0: 6.0, 1: 5.5, 2: 5.0}, {0: 6.0, 1: 5.6, 2: 5.3}, "Cannot tell: a head behind"),
    ],
)
def test_the_answer_follows_from_the_losses(probe: Losses, head: Losses, said: str) -> None:
    assert said in answer(sweep(probe, head))


@pytest.mark.parametrize(
    ("probe", "head", "noise", "said"),
    [
        # The probe's loss is clear; what heads lose is drowned in noise of its own.
        ({1: 5.0, 2: 5.3}, {1: 4.61, 2: 4.75}, (0.01, 0.8), "Cannot tell whether it is gone"),
        # Heads lose something, perhaps half of it, perhaps all.
        ({1: 5.0, 2: 5.5}, {1: 4.3, 2: 4.72}, (0.01, 0.5), "Cannot tell how much of it is gone"),
        # Whether anything is lost is not clear.
        ({1: 5.0, 2: 5.1}, {1: 4.5, 2: 4.6}, (0.8, 0.8), "Cannot tell whether late layers lose"),
    ],
)
def test_what_is_not_clear_of_zero_is_not_told(
    probe: Losses, head: Losses, noise: tuple[float, float], said: str
) -> None:
    assert said in answer(sweep(probe, head, noise))


def test_the_share_that_is_gone_is_told() -> None:
    told = answer(sweep({1: 5.0, 2: 5.5}, {1: 4.6, 2: 5.1}))
    assert re.search(r"heads lose (99|100|101) % \[\d+, \d+\] of what the probe loses\.$", told)


def test_the_answer_gives_both_losses_with_their_layers() -> None:
    told = answer(sweep({0: 6.0, 1: 5.0, 2: 5.5}, {0: 5.8, 1: 4.6, 2: 4.5}))
    assert re.search(r"loses 0\.(49|50)\d \[.*\] nats \(from layer 1\)", told)
    assert "a block head nothing (it reads most there)" in told
    assert re.search(r"At the last layer the head reads (0\.99|1\.00)\d \[", told)

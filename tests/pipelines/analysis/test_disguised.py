"""How much of what is read of t+2 is the next token in disguise, where the answer is known."""

import math

import numpy as np
import pandas as pd
import pytest

from probekit.pipelines.analysis.breakdown import certainty, disguised
from probekit.scoring.classes import Classes

DOCUMENTS, LENGTH = 24, 40


def said(certain: float, read: tuple[float, float]) -> str:
    """Return what is said where so much of the text is certain, and bits are read there and else.

    Args:
        certain: Share of the positions at which the model gives one token 0.95; elsewhere, 0.4.
        read: Bits that the probe reads beyond the floor at these positions, and at the others.
    """
    draw = np.random.default_rng(0)
    block, position = (x.ravel() for x in np.mgrid[:DOCUMENTS, :LENGTH])
    sure = position < certain * LENGTH
    floor = 5 + draw.normal(size=len(block))
    model = pd.DataFrame({"block": block, "position": position})
    model["confidence"] = np.where(sure, 0.95, 0.4)
    places = model[["block", "position"]].assign(document=block, offset=2, top1=0.0)
    gained = math.log(2) * np.where(sure, *read) * draw.uniform(0.9, 1.1, len(block))
    table = pd.concat(
        [
            places.assign(readout="floor", nats=floor),
            places.assign(readout="probe", nats=floor - gained),
        ],
        ignore_index=True,
    ).assign(marginal=False)
    shuffled = model.sample(frac=1.0, random_state=1)
    table["next"] = certainty(table, shuffled)
    rows = list(Classes(table, ["next"], ["prose"] * DOCUMENTS, seed=0).rows())
    return " ".join(disguised(rows))


@pytest.mark.parametrize(
    ("certain", "read", "words"),
    [
        (1.0, (2.0, 0.0), "100 % [100 %, 100 %] of what is read of t+2"),
        (0.5, (0.0, 1.0), "0 % [0 %, 0 %] of what is read of t+2"),
        (0.25, (2.0, 1.0), "40 % [40 %, 40 %] of what is read of t+2"),
    ],
)
def test_the_share_is_the_one_that_was_planted(
    certain: float, read: tuple[float, float], words: str
) -> None:
    assert said(certain, read).startswith(words)


def test_where_nothing_is_read_or_nothing_is_certain_nothing_is_said() -> None:
    assert said(0.5, (0.0, 0.0)) == said(0.0, (0.0, 0.0)) == said(0.0, (0.0, 1.0)) == ""


def test_the_positions_are_told() -> None:
    assert "(0.9 or more), 25 % of the positions: there" in said(0.25, (2.0, 1.0))

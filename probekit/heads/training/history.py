"""What happened in a training: its learning curve, and which weights were kept."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Row:
    """A point of the learning curve.

    Attributes:
        stage: `warm-up`, `heads`, `joint` or `model`.
        step: Steps taken.
        tokens: Tokens seen.
        part: `train`: mean over the steps since the point before; or `validation`.
        offset: Offset of the head.
        nats: Mean cross-entropy.
        rate: Learning rate of the heads, or of the model where there are none.
    """

    stage: str
    step: int
    tokens: int
    part: str
    offset: int
    nats: float
    rate: float


@dataclass(frozen=True)
class History:
    """What happened in a training.

    Attributes:
        rows: The learning curve; row by row in the order of steps, warm-up first.
        best_steps: By offset, the step whose weights were kept.
        stopped_early: Whether validation lost its patience.
    """

    rows: tuple[Row, ...]
    best_steps: Mapping[int, int]
    stopped_early: bool

    @property
    def curve(self) -> pd.DataFrame:
        """The learning curve, one row an evaluation, part and offset."""
        return pd.DataFrame([dataclasses.asdict(row) for row in self.rows])

"""What happened in a training: its learning curve, and which weights were kept."""

import dataclasses
from collections.abc import Iterator, Mapping
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
        best_steps: By offset, the step whose weights were kept: the first or the last of a
            schedule.
        stopped_early: Whether a longer training was tried, and was no better.
    """

    rows: tuple[Row, ...]
    best_steps: Mapping[int, int]
    stopped_early: bool = False

    @property
    def curve(self) -> pd.DataFrame:
        """The learning curve, one row an evaluation, part and offset."""
        return pd.DataFrame([dataclasses.asdict(row) for row in self.rows])

    def at_start(self) -> Iterator[Row]:
        """Yield what was measured before the first step of all, a warm-up's included."""
        return (row for row in self.rows if row.step == self.rows[0].step)

    def at_end(self) -> Iterator[Row]:
        """Yield what was measured behind the last step."""
        return (row for row in self.rows if row.step == self.rows[-1].step)

    def kept(self) -> dict[int, float]:
        """Return by offset the cross-entropy on validation text of the weights that were kept."""
        # A warm-up ends with the step that joint training begins with.
        stage = self.rows[-1].stage
        return {
            row.offset: row.nats
            for row in self.rows
            if (row.stage, row.part) == (stage, "validation")
            and row.step == self.best_steps[row.offset]
        }

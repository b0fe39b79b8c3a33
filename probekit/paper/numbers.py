"""The numbers that the paper reports, read from paper.toml, to stand beside measured ones.

Source: Mehra, Alonso Garcia and Mauch (2025), "On multi-token prediction for efficient LLM
inference", arXiv 2502.09419v1. Accuracies are digitised from its figures or printed in its
tables; the file says which.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from probekit.paper.means import Mean

Task = Literal["open_ended", "translation"]
TASKS: tuple[Task, ...] = get_args(Task)
FILE = Path(__file__).parent / "paper.toml"


@dataclass(frozen=True)
class PaperModel:
    """The numbers that the paper reports of one model.

    Attributes:
        key: Short name.
        name: As in tables.
        repositories: Its names on the Hub; which of them the paper used it does not say.
        figure_1: By task, top-5 accuracy of the next and of the second token.
        figure_4: By task, the mean number of next tokens that hold 0.99.
        figure_2: `last_layer_nats`, and `first_depth` below the threshold or `never`; None for
            models that figure 2 does not show.
        by_eye: Whether the open-ended next-token point was read by eye.
        n_open_ended: Positions of the open-ended points, where they are not figure 1's.
    """

    key: str
    name: str
    repositories: tuple[str, ...]
    figure_1: Mapping[Task, tuple[float, float]]
    figure_4: Mapping[Task, int]
    figure_2: Mapping[str, float | bool] | None = None
    by_eye: bool = False
    n_open_ended: int | None = None

    def shares(self, task: Task) -> tuple[Mean, Mean]:
        """Return figure 1's accuracies of the next and second token, with Wilson's intervals."""
        n = source_of("figure_1")["n_positions"]
        if task == "open_ended" and self.n_open_ended is not None:
            n = self.n_open_ended
        first, second = (Mean.wilson(value, n) for value in self.figure_1[task])
        return first, second


@dataclass(frozen=True)
class PaperStrategy:
    """A row of table 1.

    Attributes:
        key: Short name of the strategy.
        name: As in the table.
        top5: By model's key, top-5 accuracy of the next and of the second token.
    """

    key: str
    name: str
    top5: Mapping[str, tuple[float, float]]


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def source_of(name: str) -> dict[str, Any]:
    """Return how the paper gives the numbers of a figure or table: label, positions, limits.

    >>> source_of("table_1")["n_positions"], source_of("figure_1")["label"]
    (1000, 'FIG')
    """
    entry: dict[str, Any] = _file()[name]
    return entry


@cache
def models() -> tuple[PaperModel, ...]:
    """Return the models of figures 1, 2 and 4, as the paper orders them.

    >>> models()[0].name, models()[0].figure_1["translation"]
    ('Pythia 14M', (0.445, 0.235))
    """
    return tuple(_model(row) for row in _file()["model"])


def _model(row: Mapping[str, Any]) -> PaperModel:
    figure_1 = {task: tuple(values) for task, values in row["figure_1"].items()}
    return PaperModel(**{**row, "repositories": tuple(row["repositories"]), "figure_1": figure_1})


@cache
def strategies() -> tuple[PaperStrategy, ...]:
    """Return the rows of table 1, the baseline first.

    >>> strategies()[0].top5["pythia-410m"]
    (0.827, 0.682)
    """
    keys = source_of("table_1")["models"]
    return tuple(
        PaperStrategy(
            row["key"],
            row["name"],
            {k: (a, b) for k, (a, b) in zip(keys, row["top5"], strict=True)},
        )
        for row in _file()["strategy"]
    )


def choices(figure: str) -> list[tuple[str, str]]:
    """Return the choices that the paper leaves open at a figure or table, each with ours."""
    return [(row["open"], row["taken"]) for row in _file()["choice"] if figure in row["of"]]


def match(name: str) -> PaperModel | None:
    """Return the paper's model that a repository or folder is named after; None if there is none.

    A folder counts by its last part: `models/pythia-410m` is taken for EleutherAI's.

    >>> match("EleutherAI/pythia-410m-deduped").name, match("tiny")
    ('Pythia 410M', None)
    """
    last = Path(name).name.lower()
    for model in models():
        for repository in model.repositories:
            if name.lower() == repository.lower() or last == repository.split("/")[1].lower():
                return model
    return None

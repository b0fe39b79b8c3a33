"""Rate and length by validation: what is tried, what is kept, from schedules that ended."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probekit.heads.training import search as searching
from probekit.heads.training.history import History, Row
from probekit.heads.training.recipes import Recipe
from probekit.heads.training.search import search
from support.small_training import DATA, World, recipe, same, silent

# Four blocks in a step: 4 steps an epoch.
FOUR: dict[str, Any] = {"epochs": 4, "rates": (1.0, 4.0)}


@pytest.mark.parametrize("name", ["heads-only", "joint"])
def test_what_is_left_in_place_is_what_the_recipe_found_gives(name: str, tmp_path: Path) -> None:
    world = World()
    asked = recipe(name, **FOUR)
    history, found = search(world.heads, world.backbone, DATA, asked, tmp_path / "x.pt", silent)
    again = World()
    alone = again.train(found, tmp_path)
    assert same(world.values(), again.values())
    assert history.kept() == alone.kept()
    assert history.best_steps == alone.best_steps
    assert not world.moved()
    ends = [row for row in history.rows if row.part == "validation" and row.step]
    assert {row.step for row in ends} <= {4, 8, 16}
    assert {row.rate for row in ends} == {0.0}, "every schedule came to its end"


def scripted(nats: dict[tuple[float, float], float], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let trainings end with these losses, by rate and length; return what is trained."""
    asked = []

    def train(*given: Any) -> History:
        made: Recipe = given[3]
        asked.append((made.learning_rate, made.length))
        start = Row("heads", 0, 0, "validation", 1, 9.0, 1.0)
        end = Row("heads", round(100 * made.length), 0, "validation", 1, nats[asked[-1]], 0.0)
        return History((start, end), {1: end.step})

    monkeypatch.setattr(searching, "train", train)
    return asked


@pytest.mark.parametrize(
    ("longer", "tried", "kept"),
    [
        ((6.0, 5.0), 5, 100),  # still falling
        ((6.0, 6.5), 5, 50),
        ((7.5, 1.0), 4, 25),  # what is worse than half as long is not made longer still
    ],
)
def test_the_length_is_doubled_at_the_best_rate_while_that_helps(
    longer: tuple[float, float], tried: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats = {(1.0, 0.25): 8.0, (2.0, 0.25): 7.0, (4.0, 0.25): 8.5}
    nats |= {(2.0, 0.5): longer[0], (2.0, 1.0): longer[1]}
    asked, world = scripted(nats, monkeypatch), World()
    start = replace(recipe("heads-only"), learning_rate=1.0, rates=(1.0, 2.0, 4.0))
    history, found = search(world.heads, world.backbone, DATA, start, Path("x.pt"), silent)
    assert len(asked) == tried
    assert (found.learning_rate, found.length) == (2.0, kept / 100)
    assert history.best_steps == {1: kept}
    assert history.stopped_early == (kept != 100)
    assert [row.nats for row in history.rows] == [9.0, 7.0, *longer][: tried - 1]

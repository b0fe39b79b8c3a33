"""Draws by size: certain above the threshold, by chance below it."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from probekit.scoring import systematic
from probekit.scoring.systematic import drawn, drawn_of_many, inclusion

SIZES = st.lists(st.floats(0, 1e3) | st.floats(0, 1e-9), min_size=1, max_size=12)


@given(st.lists(SIZES, min_size=1, max_size=3), st.integers(1, 14))
def test_chances_sum_to_what_is_asked_for_or_all_are_certain(
    rows: list[list[float]], n: int
) -> None:
    widest = max(len(row) for row in rows)
    sizes = torch.tensor([row + [0.0] * (widest - len(row)) for row in rows]).double()
    chances = inclusion(sizes, n)
    assert bool(((chances >= 0) & (chances <= 1)).all())
    assert bool((chances[sizes == 0] == 0).all())
    for row, of_row in zip(sizes, chances, strict=True):
        positive = row > 0
        if int(positive.sum()) <= n:
            assert bool((of_row[positive] == 1).all())
            continue
        torch.testing.assert_close(of_row.sum(), torch.tensor(n).double(), rtol=1e-9, atol=1e-9)
        # One threshold: what is below it has a chance in proportion to its size.
        ratio = (of_row / row)[positive & (of_row < 1)]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-9, atol=0)
        certain = row[of_row == 1]
        if len(certain) and len(ratio):
            assert float(certain.min() * ratio[0]) >= 1 - 1e-9


@given(SIZES, st.integers(1, 6))
def test_each_is_drawn_as_often_as_its_chance_says(sizes: list[float], n: int) -> None:
    steps = 1000
    chances = inclusion(torch.tensor([sizes]).double(), n).expand(steps, -1)
    grid = (torch.arange(steps).double() + 0.5) / steps  # every start of the grid
    picked = drawn(chances, grid)
    assert float((picked.double().mean(0) - chances[0]).abs().max()) <= 1.01 / steps
    counts = picked.sum(1)
    assert int(counts.max() - counts.min()) <= 1


@given(st.lists(SIZES, min_size=1, max_size=3), st.integers(1, 14), st.floats(0.001, 0.999))
def test_stretch_by_stretch_the_same_are_drawn(
    rows: list[list[float]], n: int, start: float
) -> None:
    widest = max(len(row) for row in rows)
    sizes = torch.tensor([row + [0.0] * (widest - len(row)) for row in rows]).double()
    uniform = torch.full((len(sizes),), start).double()
    chances = inclusion(sizes, n)
    ends = chances.cumsum(1) + start
    assume(bool(((ends - ends.round()).abs() > 1e-9).all()))  # no point on a border
    expected = drawn(chances, uniform).nonzero(as_tuple=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systematic, "STRETCH", 3)
        row, place, chance = drawn_of_many(sizes, n, uniform)
    assert row.tolist() == expected[0].tolist()
    assert place.tolist() == expected[1].tolist()
    torch.testing.assert_close(chance, chances[expected])

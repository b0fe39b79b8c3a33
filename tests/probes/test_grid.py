"""The grid: its cells, what each gets of a batch, its starting moments, its validation."""

import pytest
import torch

from probekit.errors import DataError
from probekit.probes.grid import GridCell, cell_batches, cell_moments, grid_cells, mean_nats
from support.planted_parts import IDENTITY, pairs, part

PART = part(6, 0)


def test_cells_are_in_order_of_layer_and_offset() -> None:
    assert [cell.key for cell in grid_cells([2, 0], [2, 1])] == [(0, 1), (0, 2), (2, 1), (2, 2)]
    assert grid_cells([2, 0], [1], together=True) == [GridCell(None, 1, (0, 2))]


@pytest.mark.parametrize("read", [(1,), (0, 2)])
def test_each_cell_gets_the_rows_that_have_a_target_at_its_offset(read: tuple[int, ...]) -> None:
    cells = [GridCell(None, offset, read) for offset in (1, 2)]
    batches = list(cell_batches(PART, IDENTITY, cells))
    assert [cell.offset for cell, _, _ in batches] == [1, 2, 1, 2]
    for cell in cells:
        z = torch.cat([z for other, z, _ in batches if other == cell])
        ids = torch.cat([ids for other, _, ids in batches if other == cell])
        by_layer = [pairs(PART, layer, cell.offset) for layer in read]
        assert torch.equal(z, torch.cat([of_layer for of_layer, _ in by_layer], dim=1))
        assert torch.equal(ids, by_layer[0][1])


def test_moments_are_against_the_last_layer_where_it_predicts_the_same_token() -> None:
    [cell] = grid_cells([1], [2])
    moments = cell_moments(PART, None, IDENTITY, [cell])[cell]
    z, _ = pairs(PART, 1, 2)
    last = torch.cat([seen.resid[2] for seen in PART[0]])[:, 1:-1].flatten(0, 1)
    assert moments.count == len(z) == len(last)
    torch.testing.assert_close(moments.mean_y, last.double().mean(dim=0), atol=1e-6, rtol=0)
    cross = (z - z.mean(dim=0)).double().T @ (last - last.mean(dim=0)).double() / len(z)
    torch.testing.assert_close(moments.cross_covariance, cross, atol=1e-5, rtol=1e-4)


def test_the_start_is_the_lens_only_where_the_cell_reads_and_predicts_what_the_model_does() -> None:
    cells = [*grid_cells([1, 2], [1, 2]), *grid_cells([0, 2], [1], together=True)]
    at_lens = [cell.key for cell in cells if cell.starts_at_lens(IDENTITY, None)]
    assert at_lens == [(2, 1), (None, 1)]
    assert not any(cell.starts_at_lens(IDENTITY, finals=[]) for cell in cells)


def test_nats_are_averaged_over_the_positions_of_a_cell() -> None:
    cells = grid_cells([1], [1, 2])
    candidates = {
        cell: {"two": lambda z, _: 2.0 * len(z), "none": lambda *_: 0.0} for cell in cells
    }
    means = mean_nats(PART, IDENTITY, candidates)
    assert means == {cell: {"two": 2.0, "none": 0.0} for cell in cells}
    nowhere = PART[0], PART[1].at(torch.zeros_like(PART[1].valid[1]))
    with pytest.raises(DataError, match="validation has no position with a target at offset 1"):
        mean_nats(nowhere, IDENTITY, candidates)

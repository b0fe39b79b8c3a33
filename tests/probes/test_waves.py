"""Cells in waves: as many at once as memory takes, and each the same in any wave."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from probekit.errors import SettingsError
from probekit.probes import linear, waves
from probekit.probes.convex.cell_fit import CellFit
from probekit.probes.grid import grid_cells
from support.planted_parts import IDENTITY, part


def test_cells_fill_half_of_what_is_free_in_waves_of_even_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anatomy, cells = IDENTITY, grid_cells([0, 1, 2], [1, 2])
    each = waves.cell_bytes(anatomy)
    for free, sizes in (
        (100, [6]),
        (12, [6]),
        (11, [3, 3]),
        (8, [3, 3]),
        (4, [2, 2, 2]),
        (2, [1] * 6),
    ):
        monkeypatch.setattr(waves, "free_bytes", lambda _, free=free: free * each)
        assert [len(wave) for wave in waves.in_waves(cells, anatomy)] == sizes
    # One layer at a time is tried to the last byte.
    monkeypatch.setattr(waves, "free_bytes", lambda _: each)
    assert len(list(waves.in_waves(cells, anatomy))) == 6
    monkeypatch.setattr(waves, "free_bytes", lambda _: each - 1)
    with pytest.raises(
        SettingsError, match=r"fitting one linear probe takes .* read a smaller model"
    ):
        list(waves.in_waves(cells, anatomy))


def test_a_cell_takes_what_its_map_and_what_it_reads_take() -> None:
    large = replace(IDENTITY, output_embeddings=nn.Linear(20, 500, False, "meta"))
    assert waves.cell_bytes(large) == 4 * (32 * (400 + 500) + 4 * 400)
    assert waves.cell_bytes(large, 3, "concat") == 4 * (32 * (1200 + 500) + 4 * 3600)
    assert waves.cell_bytes(large, 1, "linear-full") == 4 * (32 * (10_000 + 500) + 4 * 400)


def test_nothing_is_left_of_a_wave_when_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[CellFit]] = []
    left = []
    init, objectives = CellFit.__init__, linear._objectives

    def note(fit: CellFit, *args: Any) -> None:
        made.append(weakref.ref(fit))
        init(fit, *args)

    def begin(*args: Any) -> Any:
        left.append(sum(ref() is not None for ref in made))
        return objectives(*args)

    monkeypatch.setattr(CellFit, "__init__", note)
    monkeypatch.setattr(linear, "_objectives", begin)
    monkeypatch.setattr(waves, "wave_size", lambda *_: 1)
    gc.disable()  # it comes by when it likes, and tensors are few and large
    try:
        linear.fit(part(12, 0), part(4, 1), IDENTITY, [0])
    finally:
        gc.enable()
    assert (len(made), left) == (2, [0, 0])
    assert all(ref() is None for ref in made)


def test_a_cell_is_the_same_bits_in_any_wave(monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation, anatomy = part(12, 0), part(4, 1), IDENTITY
    at_once = linear.fit(train, validation, anatomy, [0, 1])
    monkeypatch.setattr(waves, "wave_size", lambda *_: 1)
    in_turn = linear.fit(train, validation, anatomy, [0, 1])
    assert in_turn.n_passes > at_once.n_passes
    assert list(in_turn.probes) == list(at_once.probes)
    for key, probe in at_once.probes.items():
        for name, tensor in probe.tensors.items():
            assert torch.equal(tensor, in_turn.probes[key].tensors[name])

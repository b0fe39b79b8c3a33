"""Targets by offset."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from probekit.data.blocks import pack
from probekit.data.documents import Split
from probekit.data.targets import (
    Targets,
    draw_positions,
    read_targets,
    text_targets,
    write_targets,
)
from probekit.errors import SettingsError
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.greedy_targets import model_targets
from support.separators import ends

BLOCKS = pack([[5, 6, 7], [8, 4]], [0, 1], block=8, separator=ends(0, 9))


def test_a_target_is_the_token_so_many_places_on_in_the_same_document() -> None:
    assert BLOCKS.token_ids.tolist()[0][:5] == [0, 5, 6, 7, 9]
    targets = text_targets(BLOCKS, horizon=2)
    first = BLOCKS.documents == 0
    assert targets.ids[1][targets.valid[1] & first].tolist() == [6, 7, 9]
    assert targets.ids[2][targets.valid[2] & first].tolist() == [7, 9]


def test_targets_at_a_mask_are_those_alone() -> None:
    mask = torch.zeros_like(BLOCKS.documents, dtype=torch.bool)
    mask[0, 2] = True
    targets = text_targets(BLOCKS, horizon=2).at(mask)
    assert [targets.ids[k][targets.valid[k]].tolist() for k in (1, 2)] == [[7], [9]]


@pytest.mark.parametrize("horizon", [0, 8])
def test_an_offset_outside_the_block_is_an_error(horizon: int) -> None:
    with pytest.raises(SettingsError, match=rf"in 1..7 for blocks of 8 tokens, got {horizon}"):
        text_targets(BLOCKS, horizon)


@pytest.mark.parametrize(
    ("lengths", "count", "drawn"),
    [([9] * 30, 7, 7), ([4, 40, 40], 50, 50), ([9, 9, 9], 7, 7), ([5, 5], 100, 8)],
)
def test_as_many_positions_are_drawn_as_were_asked_for(
    lengths: list[int], count: int, drawn: int
) -> None:
    ids = [[1] * (length - 1) for length in lengths]
    blocks = pack(ids, range(len(ids)), block=64, separator=ends(None, 0))
    mask = draw_positions(blocks, ["a"] * len(ids), horizon=1, count=count, seed=0)
    assert int(mask.sum()) == drawn


@pytest.mark.parametrize("route", ["packed", "one-by-one"])
def test_the_models_own_continuation_is_what_it_generates(
    tiny_llama: PreTrainedModel, route: str
) -> None:
    draw = torch.Generator().manual_seed(0)
    vocabulary = tiny_llama.config.vocab_size
    documents = [torch.randint(3, vocabulary, (n,), generator=draw).tolist() for n in (20, 9, 30)]
    blocks = pack(documents, [0, 1, 2], block=24, separator=ends(None, 2))
    found = model_targets(BranchEngine(tiny_llama, route), blocks, horizon=3)
    assert found.name == "model"
    text = text_targets(blocks, horizon=3)
    assert all(torch.equal(found.valid[k], text.valid[k]) for k in (1, 2, 3))
    for row, position in found.valid[1].nonzero()[::7].tolist():
        prefix = blocks.token_ids[row : row + 1, : position + 1]
        for offset in (1, 2, 3):
            token = tiny_llama(prefix).logits[:, -1].argmax(dim=1)
            if found.valid[offset][row, position]:
                assert found.ids[offset][row, position] == token
            prefix = torch.cat([prefix, token[:, None]], dim=1)


def test_targets_are_read_as_they_were_written(tmp_path: Path) -> None:
    blocks = pack([[5, 6, 7], [8, 9]], [0, 1], block=4, separator=ends(None, 1))
    by_split: dict[Split, Targets] = {
        split: text_targets(blocks, horizon=2) for split in ("train", "validation", "test")
    }
    write_targets(by_split, tmp_path / "targets.safetensors")
    again = read_targets(tmp_path / "targets.safetensors")
    assert again.keys() == by_split.keys()
    for split, targets in by_split.items():
        assert again[split].name == targets.name
        for k in (1, 2):
            assert torch.equal(again[split].ids[k], targets.ids[k])
            assert torch.equal(again[split].valid[k], targets.valid[k])

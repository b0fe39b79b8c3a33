"""Blocks behind a layer, run by themselves: the model's own numbers where nothing is changed."""

import pytest
import torch

from probekit.causal.rerun import Rerun, visible
from probekit.errors import ModelError
from probekit.models.anatomy import find_anatomy
from support.architectures import CONFIGS, VOCABULARY, WINDOW, build, each

UNPACKABLE = {"bloom", "falcon-alibi", "mamba"}


@pytest.mark.parametrize("name", each(CONFIGS.keys() - UNPACKABLE))
def test_without_a_change_branches_give_what_the_model_gives(name: str) -> None:
    model = build(name)
    anatomy = find_anatomy(model)
    token_ids = torch.randint(2, VOCABULARY, (3 * WINDOW,), generator=torch.Generator())
    for layer in range(anatomy.n_layers):
        check = Rerun(model, anatomy, layer).check(token_ids)
        assert check.passed, check.message
        assert check.measured <= 1e-5


@pytest.mark.parametrize("name", sorted(UNPACKABLE))
def test_models_whose_branches_no_mask_keeps_apart_are_refused(name: str) -> None:
    model = build(name)
    with pytest.raises(
        ModelError, match=r"--causal cannot keep branches apart.*Leave --causal out"
    ):
        Rerun(model, find_anatomy(model), 1)


@torch.no_grad()
def test_a_change_reaches_what_running_the_whole_model_says_it_reaches() -> None:
    model = build("llama")
    anatomy, layer, at = find_anatomy(model), 1, 5
    token_ids = torch.arange(2, 12)
    put = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))

    def change(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed[:, at] = put
        return changed

    resid = model(token_ids[None], output_hidden_states=True).hidden_states[layer][0]
    handle = anatomy.blocks[layer - 1].register_forward_hook(change)
    expected = model(token_ids[None]).logits[0, at : at + 3]
    handle.remove()
    hidden = Rerun(model, anatomy, layer).hidden(
        token_ids, resid, torch.tensor([2, at]), torch.cat([resid[2:3], put]), 3
    )
    torch.testing.assert_close(anatomy.logits(hidden[1]), expected, rtol=0, atol=1e-5)
    untouched = model(token_ids[None]).logits[0, 2:5]
    torch.testing.assert_close(anatomy.logits(hidden[0]), untouched, rtol=0, atol=1e-5)


def test_a_branch_sees_the_block_before_it_and_itself_within_the_window() -> None:
    seen = visible(4, torch.tensor([2, 1]), 2, window=3).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0],  # position 2
        [0, 1, 0, 0, 1, 1, 0, 0],  # position 3
        [1, 0, 0, 0, 0, 0, 1, 0],  # position 1
        [1, 0, 0, 0, 0, 0, 1, 1],  # position 2
    ]

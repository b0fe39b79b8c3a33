"""One partial forward pass: run once, unless the model writes into what was captured."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from probekit.activations.hooks import partial_forward, resid_post
from probekit.models.anatomy import Anatomy, find_anatomy
from support.architectures import build
from support.streams import IDS


@pytest.fixture
def anatomy() -> Anatomy:
    return find_anatomy(build("llama"))


def runs_of(module: nn.Module) -> list[None]:
    """Return a list that grows by one with every start of a module's forward pass."""
    runs: list[None] = []
    module.register_forward_pre_hook(lambda *_: runs.append(None))
    return runs


@pytest.mark.parametrize("last_call", [False, True])
def test_a_pass_is_repeated_with_copies_only_where_the_model_writes(
    anatomy: Anatomy, last_call: bool
) -> None:
    runs = runs_of(anatomy.decoder)
    sound = partial_forward(anatomy, IDS, [1, 2], last_call=last_call)
    assert len(runs) == 1

    def write(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        args[0].add_(100.0)

    anatomy.blocks[1].register_forward_pre_hook(write)
    with torch.no_grad():
        changed = partial_forward(anatomy, IDS, [1, 2], last_call=last_call)
    assert len(runs) == 3
    assert torch.equal(changed.resid[1], sound.resid[1])
    assert not torch.equal(changed.resid[2], sound.resid[2])


def test_gradients_flow_through_a_pass_and_not_through_a_capture(anatomy: Anatomy) -> None:
    assert partial_forward(anatomy, IDS, [2]).resid[2].requires_grad
    assert not resid_post(anatomy, [2], IDS)[2].requires_grad


def test_the_last_call_is_none_unless_it_is_asked_for(anatomy: Anatomy) -> None:
    assert partial_forward(anatomy, IDS, [0]).last_call is None
    call = partial_forward(anatomy, IDS, [0], last_call=True).last_call
    assert call is not None
    assert call[0][0].shape == (*IDS.shape, 32)


def test_the_last_call_of_a_single_block_is_captured_before_it_runs(anatomy: Anatomy) -> None:
    single = replace(anatomy, blocks=anatomy.blocks[:1])
    runs = runs_of(anatomy.blocks[0].get_submodule("mlp"))
    captured = partial_forward(single, IDS, [0], last_call=True)
    assert list(captured.resid) == [0]
    assert captured.last_call is not None
    assert not runs

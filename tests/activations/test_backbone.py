"""The shared blocks: run as far as they are read, with the last block's call taken along."""

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.activations.backbone import Backbone
from probekit.activations.residual_stream import stream
from probekit.errors import ModelError, SettingsError
from probekit.models.anatomy import Anatomy, find_anatomy
from support.architectures import build, each

IDS = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def backbone(tiny_llama: PreTrainedModel) -> Backbone:
    return Backbone(tiny_llama, find_anatomy(tiny_llama))


@pytest.mark.parametrize("name", each())
@pytest.mark.filterwarnings("ignore")
def test_the_layers_are_those_of_the_stream_and_the_call_gives_the_last_block(name: str) -> None:
    model = build(name)
    anatomy = find_anatomy(model)
    (seen,) = stream(model, anatomy, IDS, range(4), batch_size=2)
    with torch.no_grad():
        reading = Backbone(model, anatomy).read(IDS, {0, 1, 2, 3})
        assert sorted(reading.resid) == [0, 1, 2, 3]
        for layer, resid in reading.resid.items():
            torch.testing.assert_close(resid, seen.resid[layer])
        # Blocks are passed over here, and the call is the same.
        short = Backbone(model, anatomy).read(IDS, {0})
        again = short.call.run(anatomy.blocks[-1], reading.resid[2])
    torch.testing.assert_close(again, seen.resid[3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("layers", "run"), [({0}, 1), ({1}, 1), ({0, 2}, 2), ({3}, 3)])
def test_no_block_behind_the_last_layer_read_is_run(
    backbone: Backbone, layers: set[int], run: int
) -> None:
    ran: list[nn.Module] = []
    parts = [block.get_submodule("mlp") for block in backbone.anatomy.blocks]
    handles = [
        part.register_forward_hook(lambda module, _, __: ran.append(module))
        for part in [*parts, backbone.anatomy.output_embeddings]
    ]
    backbone.read(IDS, layers)
    for handle in handles:
        handle.remove()
    assert ran == parts[:run]


def test_nothing_is_left_behind_in_the_model(backbone: Backbone) -> None:
    with torch.no_grad():
        before, hooks = backbone.model(IDS).logits, hooked(backbone)
        backbone.read(IDS, {0})
        assert hooked(backbone) == hooks
        torch.testing.assert_close(backbone.model(IDS).logits, before, atol=0, rtol=0)
    assert not any("forward" in block.__dict__ for block in backbone.anatomy.blocks)


def hooked(backbone: Backbone) -> list[list[int]]:
    """Return the hooks of each block; other readers of a shared model leave some of theirs."""
    blocks = backbone.anatomy.blocks
    return [[*block._forward_hooks, *block._forward_pre_hooks] for block in blocks]


def test_gradients_flow_where_they_are_enabled() -> None:
    model = build("gpt_neox")
    backbone = Backbone(model, find_anatomy(model))
    assert backbone.read(IDS, {2}).resid[2].requires_grad
    with torch.no_grad():
        assert not backbone.read(IDS, {2}).resid[2].requires_grad


@pytest.mark.parametrize("layers", [set(), {4}, {-1, 2}])
def test_layers_that_do_not_exist_are_an_error(backbone: Backbone, layers: set[int]) -> None:
    with pytest.raises(SettingsError, match=r"layers must be in 0\.\.3 and at least one"):
        backbone.read(IDS, layers)


class _Counting(nn.Module):
    """A block that gives another answer each time it is called."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.calls = block, 0

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        self.calls += 1
        found: Tensor = self.block(*args, **kwargs)
        return found * self.calls


def test_a_last_block_that_cannot_be_run_again_is_an_error() -> None:
    model = build("llama")
    layers = model.get_submodule("model.layers")
    assert isinstance(layers, nn.ModuleList)
    anatomy = find_anatomy(model)
    layers[2] = _Counting(layers[2])
    changed = Anatomy(
        anatomy.decoder, tuple(layers), anatomy.final, anatomy.output_embeddings, anatomy.d_model
    )
    with pytest.raises(ModelError, match="cannot be run by itself"):
        Backbone(model, changed)

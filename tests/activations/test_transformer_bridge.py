"""Other sites than the residual stream: read through transformer_lens, of a copy of the model."""

import copy
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from probekit.activations.residual_stream import stream
from probekit.activations.transformer_bridge import bridged
from probekit.errors import ModelError
from probekit.models.anatomy import Anatomy, find_anatomy
from support.architectures import build
from support.streams import ALL, IDS, whole


@pytest.fixture
def llama() -> tuple[PreTrainedModel, Anatomy]:
    model = build("llama")
    return model, find_anatomy(model)


BRIDGED = ["llama", "gpt2", "gpt_neox", "gptj", "qwen3", "mistral", "gemma2", "opt", "bloom"]


@pytest.mark.parametrize("name", BRIDGED)
def test_transformer_lens_gives_the_same_residual_stream(name: str) -> None:
    model = build(name)
    anatomy = find_anatomy(model)
    theirs = bridged(model, anatomy, [1, 2, 3], "resid_post")(IDS)
    ours = whole(stream(model, anatomy, IDS, [1, 2, 3], batch_size=5))
    for layer in ours:
        torch.testing.assert_close(theirs[layer], ours[layer], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2"])
def test_what_attention_and_mlp_add_is_the_step_between_layers(name: str) -> None:
    model = build(name)
    anatomy = find_anatomy(model)
    resid = whole(stream(model, anatomy, IDS, ALL, batch_size=5))
    attention = whole(stream(model, anatomy, IDS, [2], batch_size=2, site="attn_out"))[2]
    mlp = whole(stream(model, anatomy, IDS, [2], batch_size=2, site="mlp_out"))[2]
    torch.testing.assert_close(resid[1] + attention + mlp, resid[2], atol=1e-4, rtol=0)


def test_the_middle_of_a_block_is_between_its_attention_and_its_mlp(
    llama: tuple[PreTrainedModel, Anatomy],
) -> None:
    resid = whole(stream(*llama, IDS, ALL, batch_size=5))
    middle = whole(stream(*llama, IDS, [1], batch_size=5, site="resid_mid"))[1]
    attention = whole(stream(*llama, IDS, [1], batch_size=5, site="attn_out"))[1]
    torch.testing.assert_close(resid[0] + attention, middle, atol=1e-4, rtol=0)


def test_the_bridge_leaves_the_model_as_it_was(llama: tuple[PreTrainedModel, Anatomy]) -> None:
    model, anatomy = llama
    with torch.no_grad():
        before = model(IDS).logits
    attention = model.config._attn_implementation
    list(stream(model, anatomy, IDS, [1], batch_size=5, site="attn_out"))
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, before)
    assert model.config._attn_implementation == attention == "sdpa"
    assert find_anatomy(model).blocks == anatomy.blocks


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return a list that grows by each model that is copied."""
    made: list[nn.Module] = []

    def deepcopy(model: Any, original: Any = copy.deepcopy) -> Any:
        made.append(original(model))
        return made[-1]

    monkeypatch.setattr(
        "probekit.activations.transformer_bridge.copy", SimpleNamespace(deepcopy=deepcopy)
    )
    return made


def test_streams_of_one_model_share_one_copy_of_it(
    llama: tuple[PreTrainedModel, Anatomy], copies: list[nn.Module]
) -> None:
    first = stream(*llama, IDS, [1], batch_size=5, site="attn_out")
    second = stream(*llama, IDS, [1, 2], batch_size=5, site="attn_out")
    mlp = stream(*llama, IDS, [2], batch_size=5, site="mlp_out")
    assert len(copies) == 1
    assert torch.equal(whole(first)[1], whole(second)[1])
    assert not torch.equal(whole(mlp)[2], whole(second)[2])
    other = build("llama")
    stream(other, find_anatomy(other), IDS, [1], batch_size=5, site="attn_out")
    assert len(copies) == 2


def test_a_model_whose_weights_changed_is_copied_anew(
    llama: tuple[PreTrainedModel, Anatomy], copies: list[nn.Module]
) -> None:
    model, anatomy = llama
    before = whole(stream(model, anatomy, IDS, [1], batch_size=5, site="mlp_out"))[1]
    with torch.no_grad():
        for weight in anatomy.blocks[0].parameters():
            weight.mul_(2)
    after = whole(stream(model, anatomy, IDS, [1], batch_size=5, site="mlp_out"))[1]
    assert (after - before).abs().max() > 0.01
    model.bfloat16()
    batches = stream(model, find_anatomy(model), IDS, [1], batch_size=5, site="mlp_out")
    assert whole(batches)[1].dtype == torch.bfloat16
    assert len(copies) == 3


def test_a_copy_lives_no_longer_than_its_model(copies: list[nn.Module]) -> None:
    model = build("llama")
    stream(model, find_anatomy(model), IDS, [1], batch_size=5, site="attn_out")
    alive: list[weakref.ref[Any]] = [weakref.ref(model), weakref.ref(copies.pop())]
    del model
    gc.collect()
    assert [each() for each in alive] == [None, None]


@pytest.mark.parametrize(("name", "site"), [("gpt_neox", "resid_mid"), ("mamba", "attn_out")])
def test_a_site_that_a_model_does_not_have_is_named(name: str, site: Any) -> None:
    model = build(name)
    with pytest.raises(ModelError, match=f"does not name {site} in .* Use --site resid_post"):
        list(stream(model, find_anatomy(model), IDS, [1], batch_size=5, site=site))


def test_a_bridge_that_computes_something_else_is_refused() -> None:
    # transformer_lens 4.3 leaves ALiBi out of Falcon.
    model = build("falcon-alibi")
    with pytest.raises(ModelError, match="does not compute what FalconForCausalLM does"):
        list(stream(model, find_anatomy(model), IDS, [1], batch_size=5, site="mlp_out"))

"""LoRA finds queries, keys and values anywhere, and leaves no trace when it is taken off."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor
from transformers import PreTrainedModel

from probekit.errors import ModelError, RunError, SettingsError
from probekit.heads.training import lora
from probekit.models.anatomy import find_anatomy
from support.architectures import CONFIGS, SHAPE, VOCABULARY, build, each

IDS = torch.arange(24).view(2, 12) % VOCABULARY

FUSED = {
    "gpt2": "c_attn",
    "gpt_neox": "query_key_value",
    "bloom": "query_key_value",
    "falcon": "query_key_value",
    "falcon-alibi": "query_key_value",
}


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    found: Tensor = model(IDS, use_cache=False).logits
    return found


def adapted(name: str, layers: tuple[int, ...] = (1, 3)) -> tuple[PreTrainedModel, Any]:
    """Return a model whose adapters do something."""
    model = build(name)
    found = find_anatomy(model)
    added = lora.attach(model, found, layers, rank=2, alpha=4.0)
    with torch.no_grad():
        for seed, parameter in enumerate(added.values()):
            draw = torch.Generator().manual_seed(seed)
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return model, found


@pytest.mark.parametrize("name", each(CONFIGS.keys() - {"mamba"}))
def test_queries_keys_and_values_are_found_in_every_architecture(name: str) -> None:
    model = build(name)
    before = logits(model)
    added = lora.attach(model, find_anatomy(model), [2], rank=2, alpha=4.0)
    fused = FUSED.get(name)
    modules = {key.partition(".lora_")[0].rpartition(".")[2] for key in added}
    assert modules == ({fused} if fused else {"q_proj", "k_proj", "v_proj"})
    assert len(added) == 2 * len(modules)
    assert torch.equal(logits(model), before), "it must change nothing at first"


@pytest.mark.parametrize("name", each(["gpt_neox", "gpt2", "llama", "falcon"]))
def test_a_detached_model_is_what_it_was_bit_for_bit(name: str) -> None:
    base = build(name)
    model, found = adapted(name)
    assert not torch.allclose(logits(model), logits(base), atol=1e-3)
    assert all(p.requires_grad for p in lora.parameters(model).values())
    lora.detach(model)
    assert torch.equal(logits(model), logits(base))
    assert not lora.parameters(model)
    state = base.state_dict()
    assert dict.fromkeys(state, True) == {
        key: torch.equal(value, state[key]) for key, value in model.state_dict().items()
    }
    assert all(p.requires_grad for p in model.parameters())
    lora.attach(model, found, [1], rank=1, alpha=1.0)


@pytest.mark.parametrize("name", each(["gpt_neox", "gpt2", "llama", "bloom", "opt", "falcon"]))
def test_a_merged_copy_computes_what_the_adapted_model_does(name: str) -> None:
    model, _ = adapted(name)
    changed = logits(model)
    whole = lora.merged(model)
    largest = float(changed.abs().max())
    assert float((logits(whole) - changed).abs().max()) < 1e-5 * max(1.0, largest)
    assert type(whole) is type(model)
    assert not lora.parameters(whole)
    assert whole.state_dict().keys() == build(name).state_dict().keys()
    assert torch.equal(logits(model), changed), "the model itself keeps its adapters"
    # The fused or split weights of other blocks are copies, and unchanged.
    lora.detach(model)
    assert not torch.allclose(logits(whole), logits(model), atol=1e-3)


def test_only_the_asked_blocks_get_adapters() -> None:
    _, found = adapted("llama", layers=(1, 3))
    with_some = [
        number for number, block in enumerate(found.blocks, start=1) if lora.parameters(block)
    ]
    assert with_some == [1, 3]


def test_the_first_values_come_from_the_seed_and_touch_no_other_generator() -> None:
    found = []
    for seed in (0, 0, 1):
        model = build("llama")
        torch.manual_seed(7)
        added = lora.attach(model, find_anatomy(model), [1], rank=2, alpha=4.0, seed=seed)
        found.append(torch.cat([p.detach().flatten() for p in added.values()]))
        assert torch.initial_seed() == 7
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.manual_seed(7)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_saved_adapters_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, _ = adapted("gpt2")
    lora.save(model, tmp_path / "lora.safetensors", {"model_fingerprint": "abc"})
    again = build("gpt2")
    notes = lora.load(again, find_anatomy(again), tmp_path / "lora.safetensors")
    assert notes["model_fingerprint"] == "abc"
    assert torch.equal(logits(again), logits(model))
    other = build("llama")
    with pytest.raises(RunError, match="of a model that is built otherwise"):
        lora.load(other, find_anatomy(other), tmp_path / "lora.safetensors")
    with pytest.raises(RunError, match="there are no adapters at"):
        lora.load(other, find_anatomy(other), tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="no adapters to save"):
        lora.save(other, tmp_path / "none.safetensors", {})


def test_names_of_queries_keys_and_values_are_told_from_others() -> None:
    names = (
        "q_proj k_proj v_proj query key value q k v wq wk wv W_Q q_lin query_key_value "
        "qkv_proj Wqkv qkv c_attn q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj query_proj"
    )
    assert all(lora.QKV.fullmatch(name) for name in names.split())
    others = "o_proj out_proj dense c_proj gate_proj up_proj in_proj x_proj fc1 c_fc kq vo w1"
    assert not any(lora.QKV.fullmatch(name) for name in others.split())


def test_a_projection_that_is_fused_and_grouped_is_found() -> None:
    model = hf.Phi3ForCausalLM(hf.Phi3Config(**SHAPE | {"pad_token_id": 0})).eval()
    before = logits(model)
    added = lora.attach(model, find_anatomy(model), [1, 2], rank=2, alpha=4.0)
    assert len(added) == 4
    assert all("qkv_proj" in name for name in added)
    assert torch.equal(logits(model), before)


def test_a_block_without_queries_is_an_error_that_names_what_it_has() -> None:
    model = build("mamba")
    with pytest.raises(ModelError, match=r"block 1 of MambaFor.* called in_proj, x_proj, dt_proj"):
        lora.attach(model, find_anatomy(model), [1], rank=2, alpha=4.0)


def test_what_is_not_allowed_is_named() -> None:
    model, found = adapted("llama")
    with pytest.raises(ModelError, match="adapters already; take them off with `detach`"):
        lora.attach(model, found, [1], rank=2, alpha=4.0)
    lora.detach(model)
    with pytest.raises(SettingsError, match=r"blocks in 1\.\.3, got \[4\]"):
        lora.attach(model, found, [1, 4], rank=2, alpha=4.0)
    with pytest.raises(SettingsError, match=r"blocks in 1\.\.3, got none"):
        lora.attach(model, found, [], rank=2, alpha=4.0)
    with pytest.raises(SettingsError, match="rank of LoRA must be at least 1, got 0"):
        lora.attach(model, found, [1], rank=0, alpha=4.0)


def test_a_missing_peft_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"pip install 'probekit-mtp\[heads\]'"):
        lora.attach(model, find_anatomy(model), [1], rank=2, alpha=4.0)
    assert not lora.parameters(model)

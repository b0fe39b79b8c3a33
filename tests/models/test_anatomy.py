"""The anatomy of every architecture, against what the model itself computes."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from probekit.errors import ModelError
from probekit.models.anatomy import find_anatomy
from support.architectures import CONFIGS, SHAPE, VOCABULARY, build

IDS = torch.arange(2 * 20).reshape(2, 20) * 7 % VOCABULARY


def run(model: hf.PreTrainedModel, block: torch.nn.Module) -> tuple[Tensor, Any]:
    """Return a block's output and the model's own, by a hook that is the test's own."""
    found = []
    handle = block.register_forward_hook(lambda _, __, output: found.append(output))
    with torch.no_grad():
        output = model(IDS, output_hidden_states=True, use_cache=False)
    handle.remove()
    return found[0][0] if isinstance(found[0], tuple) else found[0], output


@pytest.mark.parametrize("name", CONFIGS)
def test_decoding_the_last_block_gives_the_model_s_logits(name: str) -> None:
    model = build(name)
    anatomy = find_anatomy(model)
    resid, output = run(model, anatomy.blocks[-1])
    assert anatomy.n_layers == model.config.num_hidden_layers == 3
    assert anatomy.d_model == resid.shape[-1] == 32
    with torch.no_grad():
        torch.testing.assert_close(anatomy.decode(resid), output.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"opt-projected"}))
def test_what_enters_the_unembedding_is_the_last_hidden_state_which_is_normed(name: str) -> None:
    model = build(name)
    anatomy = find_anatomy(model)
    resid, output = run(model, anatomy.blocks[-1])
    with torch.no_grad():
        torch.testing.assert_close(anatomy.hidden(resid), output.hidden_states[-1])
    assert (resid - output.hidden_states[-1]).abs().max() > 0.1


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere", "granite", "opt-projected", "mamba"])
def test_half_precision_is_understood_too(name: str) -> None:
    model = build(name).bfloat16()
    anatomy = find_anatomy(model)
    assert anatomy.unembedding.dtype == torch.bfloat16
    assert anatomy.scale == pytest.approx(find_anatomy(build(name)).scale, rel=1e-4)


def test_parts_that_only_some_models_have_are_found() -> None:
    anatomies = {name: find_anatomy(build(name)) for name in CONFIGS}
    assert anatomies["gemma2"].softcap == 5.0
    assert [name for name, each in anatomies.items() if each.softcap] == ["gemma2"]
    assert {name for name, each in anatomies.items() if each.bias is not None} == {"gptj", "phi"}
    scales = {name: each.scale for name, each in anatomies.items() if each.scale != 1.0}
    assert scales == {"cohere": pytest.approx(0.0625), "granite": pytest.approx(1 / 8)}
    assert anatomies["opt-projected"].d_hidden == 16
    assert anatomies["opt-projected"].d_model == 32


def test_the_decoder_runs_all_blocks_and_no_unembedding() -> None:
    model = build("llama")
    anatomy = find_anatomy(model)
    fired: list[torch.nn.Module] = []
    for module in (*anatomy.blocks, anatomy.output_embeddings):
        module.register_forward_hook(lambda module, *_: fired.append(module))
    anatomy.decoder(IDS, use_cache=False)
    assert fired == list(anatomy.blocks)


def test_a_block_may_give_a_list() -> None:
    config = hf.OpenAIGPTConfig(vocab_size=50, n_embd=16, n_layer=2, n_head=2)
    assert find_anatomy(hf.OpenAIGPTLMHeadModel(config).train(False)).n_layers == 2


def test_the_unembedding_is_the_model_s_own_weight_and_not_a_copy() -> None:
    model = build("llama")
    anatomy = find_anatomy(model)
    assert anatomy.unembedding.data_ptr() == model.lm_head.weight.data_ptr()
    assert not anatomy.unembedding.requires_grad
    assert anatomy.unembedding.shape == (anatomy.vocab_size, anatomy.d_hidden) == (VOCABULARY, 32)


@pytest.mark.parametrize(
    ("name", "forgotten"),
    [
        ("gemma2", {"softcap": None}),
        ("cohere", {"scale": 1.0}),
        ("llama", {"final": ()}),
    ],
)
def test_a_forgotten_part_shows_in_the_logits(name: str, forgotten: dict[str, Any]) -> None:
    model = build(name)
    anatomy = replace(find_anatomy(model), **forgotten)
    resid, output = run(model, anatomy.blocks[-1])
    with torch.no_grad():
        assert (anatomy.decode(resid) - output.logits).abs().max() > 0.1


def test_finding_leaves_no_hook_behind() -> None:
    model = build("gpt2")
    find_anatomy(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_hooks_are_removed_after_an_error_too() -> None:
    model = build("llama")
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"float32 gives logits that are not finite; load it in"):
        find_anatomy(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_encoder_decoder_model_is_refused() -> None:
    config = hf.T5Config(
        vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2,
    )  # fmt: skip
    with pytest.raises(ModelError, match="is an encoder-decoder model"):
        find_anatomy(hf.T5ForConditionalGeneration(config).train(False))


def test_an_encoder_with_a_masked_language_model_s_head_is_refused() -> None:
    config = hf.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    with pytest.raises(ModelError, match="BertForMaskedLM is not causal"):
        find_anatomy(hf.BertForMaskedLM(config).train(False))


def test_a_model_without_head_is_refused() -> None:
    with pytest.raises(ModelError, match="LlamaModel has no output embeddings"):
        find_anatomy(build("llama").model)


def test_a_model_in_train_mode_is_refused() -> None:
    with pytest.raises(ModelError, match=r"in train mode.*call model\.eval\(\)"):
        find_anatomy(build("llama").train())


def test_a_model_that_lists_no_such_blocks_is_refused() -> None:
    model = build("llama")
    model.config.num_hidden_layers = 4
    with pytest.raises(ModelError, match="expected one list of 4 modules that fire once"):
        find_anatomy(model)


def test_a_model_that_needs_more_than_tokens_is_refused() -> None:
    class Picky(hf.LlamaForCausalLM):
        def forward(self, input_ids: Tensor, picture: Tensor, **_: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(ModelError, match="Picky could not be run on 8 token ids alone"):
        find_anatomy(Picky(hf.LlamaConfig(**SHAPE)).train(False))


def test_an_unknown_step_before_the_unembedding_is_refused() -> None:
    model = build("llama")
    model.lm_head.register_forward_pre_hook(lambda _, args: (args[0] + 1.0,))
    with pytest.raises(ModelError, match=r"final path of Llama.*LlamaRMSNorm applied to the last"):
        find_anatomy(model)


def test_an_unknown_step_after_the_unembedding_is_refused() -> None:
    class Shifted(hf.LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + 1.0
            return output

    with pytest.raises(ModelError, match="logits of Shifted: they are neither a constant times"):
        find_anatomy(Shifted(hf.LlamaConfig(**SHAPE)).train(False))

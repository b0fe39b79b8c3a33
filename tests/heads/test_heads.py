"""Heads: how they start, what they read, what they share, and how they are kept."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from probekit.activations.backbone import Backbone, BackboneOutput
from probekit.errors import ModelError, RunError, SettingsError
from probekit.heads.files import load, save
from probekit.heads.heads import build
from probekit.heads.kinds import Kind
from probekit.models import loading
from probekit.models.anatomy import Anatomy, find_anatomy
from support.architectures import CONFIGS, each
from support.architectures import build as model_of

IDS = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))
KINDS: tuple[Kind, ...] = ("block", "medusa", "linear")


@pytest.fixture(scope="module")
def anatomy(tiny_llama: PreTrainedModel) -> Anatomy:
    return find_anatomy(tiny_llama)


@pytest.fixture(scope="module")
def backbone(tiny_llama: PreTrainedModel, anatomy: Anatomy) -> Backbone:
    return Backbone(tiny_llama, anatomy)


@pytest.fixture(scope="module")
def reading(backbone: Backbone) -> BackboneOutput:
    with torch.no_grad():
        return backbone.read(IDS, range(4))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def pointers(module: torch.nn.Module) -> set[int]:
    return {tensor.data_ptr() for tensor in module.state_dict().values()}


@pytest.mark.parametrize("name", each())
@pytest.mark.filterwarnings("ignore")
def test_copies_of_the_last_block_are_the_model(name: str) -> None:
    model = model_of(name)
    found = find_anatomy(model)
    heads = build("block", found, (1, 3), init="copy")
    with torch.no_grad():
        reading = Backbone(model, found).read(IDS, heads.reads)
        expected = model(IDS).logits
        for offset in (1, 3):
            close(heads.logits(heads.hidden(reading, offset), offset), expected)


@pytest.mark.parametrize("name", each(CONFIGS.keys() - {"opt-projected"}))
@pytest.mark.filterwarnings("ignore")
def test_zero_starts_as_the_logit_lens_of_what_is_read(name: str) -> None:
    model = model_of(name)
    found = find_anatomy(model)
    heads = build("block", found, (2,), init="zero", read=1)
    reading = Backbone(model, found).read(IDS, {1})
    hidden = heads.hidden(reading, 2)
    close(heads.logits(hidden, 2), found.decode(reading.resid[1]))
    # The gradient must have a way out of zero.
    hidden.square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in heads.parameters())


def test_a_block_that_norms_what_leaves_it_cannot_start_as_the_identity() -> None:
    found = find_anatomy(model_of("opt-projected"))
    with pytest.raises(ModelError, match="cannot start as the identity"):
        build("block", found, (2,), init="zero")


@pytest.mark.parametrize("own", [False, True])
def test_medusa_and_linear_heads_start_as_the_logit_lens(
    anatomy: Anatomy, reading: BackboneOutput, own: bool
) -> None:
    lens = anatomy.decode(reading.resid[1])
    medusa = build("medusa", anatomy, (2,), read=1, own_unembedding=own)
    close(medusa.logits(medusa.hidden(reading, 2), 2), lens)
    linear = build("linear", anatomy, (2,), read=1)
    close(linear.logits(linear.hidden(reading, 2), 2), lens)


@pytest.mark.parametrize("name", ["cohere", "gemma2"])
def test_an_own_unembedding_keeps_scale_and_soft_cap(name: str) -> None:
    found = find_anatomy(model_of(name))
    heads = build("medusa", found, (2,), own_unembedding=True)
    hidden = torch.randn(5, 32)
    close(heads.logits(hidden, 2), found.logits(hidden))
    heads.logits(hidden, 2).sum().backward()
    assert heads.get_parameter("heads.2.unembedding.weight").grad is not None


def test_a_medusa_head_is_a_residual_block_behind_the_norm(
    anatomy: Anatomy, reading: BackboneOutput
) -> None:
    heads = build("medusa", anatomy, (2,), read=2)
    weight = heads.get_parameter("heads.2.linear.weight")
    with torch.no_grad():
        weight.copy_(torch.randn_like(weight))
    z = anatomy.hidden(reading.resid[2])
    y = z @ weight.T
    close(heads.hidden(reading, 2), z + y * torch.sigmoid(y))


def test_random_blocks_follow_the_models_own_rule_and_the_seed(anatomy: Anatomy) -> None:
    state = torch.get_rng_state()
    first, again, other = (build("block", anatomy, (2, 3), seed=s) for s in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    name = "mlp.up_proj.weight"
    weights = [h.get_parameter(f"heads.{k}.{name}") for h in (first, again, other) for k in (2, 3)]
    assert torch.equal(weights[0], weights[2])
    for left, right in ((0, 1), (0, 4), (1, 4)):
        assert not torch.equal(weights[left], weights[right])
    assert float(weights[0].detach().std()) == pytest.approx(0.02, rel=0.1)  # initializer_range
    assert bool((first.get_parameter("heads.2.input_layernorm.weight") == 1).all())


def test_random_blocks_are_new_in_a_model_that_was_loaded(model_folder: Path) -> None:
    # transformers marks loaded weights as not to be touched.
    found = find_anatomy(loading.load(str(model_folder)).model)
    head = build("block", found, (2,)).heads["2"]
    for name, weight in head.named_parameters():
        assert weight.ndim < 2 or not torch.equal(weight, found.blocks[-1].get_parameter(name))
        assert weight.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_heads_share_no_storage(anatomy: Anatomy, kind: Kind, tiny_llama: PreTrainedModel) -> None:
    own = {"own_unembedding": True} if kind == "medusa" else {}
    heads = build(kind, anatomy, (1, 2, 3), read="mix", **own)  # type: ignore[arg-type]
    count = len(heads.state_dict())
    assert len(pointers(heads)) == count
    assert not pointers(heads) & pointers(tiny_llama)
    assert not {id(p) for p in heads.parameters()} & {id(p) for p in tiny_llama.parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_a_block_above_the_layer_read(kind: Kind) -> None:
    model = model_of("llama")
    found = find_anatomy(model)
    heads = build(kind, found, (2,), read=2)
    hidden = heads.hidden(Backbone(model, found).read(IDS, heads.reads), 2)
    heads.logits(hidden, 2).square().sum().backward()
    for layer, block in enumerate(found.blocks, start=1):
        reached = [p.grad is not None and bool(p.grad.any()) for p in block.parameters()]
        assert all(reached) if layer <= 2 else not any(reached)
    assert all(p.grad is not None for p in heads.parameters())


def test_a_mixture_starts_as_the_plain_average(anatomy: Anatomy, reading: BackboneOutput) -> None:
    heads = build("linear", anatomy, (1, 2), read="mix")
    assert heads.reads == {1, 2}
    mean = (reading.resid[1] + reading.resid[2]) / 2
    close(heads.hidden(reading, 1), anatomy.hidden(mean))
    with torch.no_grad():
        heads.mixes["2"].copy_(torch.tensor([0.1, 0.2]))
    # exp(1) at T = 0.1: the second of head 2 alone counts e times the first.
    share = torch.tensor(1.0).exp() / (1 + torch.tensor(1.0).exp())
    mixed = (1 - share) * reading.resid[1] + share * reading.resid[2]
    close(heads.hidden(reading, 2), anatomy.hidden(mixed))
    close(heads.hidden(reading, 1), anatomy.hidden(mean))
    heads.hidden(reading, 2).square().sum().backward()
    assert bool(heads.mixes["2"].grad.any())
    assert heads.mixes["1"].grad is None


def test_a_normalised_mixture_averages_layers_of_one_length(
    anatomy: Anatomy, reading: BackboneOutput
) -> None:
    heads = build("linear", anatomy, (2,), read="mix", normalise=True)
    layers = [reading.resid[layer] for layer in (1, 2)]
    unit = [x / x.square().mean(dim=-1, keepdim=True).sqrt() for x in layers]
    close(heads.hidden(reading, 2), anatomy.hidden((unit[0] + unit[1]) / 2))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"kind": "tree"}, "kind must be one of block, medusa, linear"),
        ({"offsets": ()}, "offsets must be 1 or more"),
        ({"offsets": (0, 1)}, "offsets must be 1 or more"),
        ({"read": 4}, r"read must be mix or a layer in 0\.\.3, got 4"),
        ({"read": "all"}, "read must be mix"),
        ({"init": "ones"}, "init must be one of random, copy, zero"),
        ({"kind": "linear", "init": "copy"}, "linear heads start as the identity"),
        ({"normalise": True}, "normalise is for the mixture"),
        ({"own_unembedding": True}, "own_unembedding is for medusa heads"),
    ],
)
def test_choices_that_make_no_head_are_an_error(
    anatomy: Anatomy, choices: dict[str, object], message: str
) -> None:
    given = {"kind": "block", "offsets": (1, 2)} | choices
    with pytest.raises(SettingsError, match=message):
        build(anatomy=anatomy, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_same_heads_bit_for_bit(
    anatomy: Anatomy, reading: BackboneOutput, kind: Kind, tmp_path: Path
) -> None:
    own = {"own_unembedding": True} if kind == "medusa" else {}
    heads = build(kind, anatomy, (1, 2), read="mix", normalise=True, **own)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save(heads, tmp_path / "heads.safetensors", "abc")
    again = load(tmp_path / "heads.safetensors", anatomy, "abc", kind)
    assert again.config == heads.config
    assert again.state_dict().keys() == heads.state_dict().keys()
    for name, tensor in heads.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert torch.equal(again.hidden(reading, 2), heads.hidden(reading, 2))
    with safe_open(tmp_path / "heads.safetensors", framework="pt") as file:
        keys = set(file.keys())
        assert file.metadata()["reads"] == "mix"
    assert f"{kind}/2.mix" in keys
    assert {key.split("/")[0] for key in keys} == {kind}


def test_heads_of_another_model_or_kind_are_refused(anatomy: Anatomy, tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    with pytest.raises(RunError, match="there are no heads at"):
        load(path, anatomy, "abc")
    save(build("linear", anatomy, (2,)), path, "abc")
    with pytest.raises(RunError, match="trained on another model"):
        load(path, anatomy, "abd")
    with pytest.raises(RunError, match="of kind linear, block was asked for"):
        load(path, anatomy, "abc", "block")
    save(build("block", anatomy, (2,)), path, "abc")
    with pytest.raises(RunError, match=r"do not fit this model: block/2\."):
        load(path, find_anatomy(model_of("gpt2")), "abc")


def test_float32_heads_run_on_a_model_of_half_the_precision() -> None:
    model = model_of("llama").bfloat16()
    found = find_anatomy(model)
    for kind in KINDS:
        heads = build(kind, found, (2,)).float()
        hidden = heads.hidden(Backbone(model, found).read(IDS, heads.reads), 2)
        assert hidden.dtype == torch.bfloat16
        hidden.float().square().sum().backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in heads.parameters())

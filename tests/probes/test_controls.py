"""Controls: targets without their context, and blocks that have learned nothing."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.activations.residual_stream import stream
from probekit.data.targets import Targets
from probekit.errors import ModelError, SettingsError
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes import controls
from support import worlds
from support.architectures import build, each


def text_of(ids: Tensor, *offsets: int) -> Targets:
    """Return as targets the number of each position, so that whose is whose can be told."""
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[:, -1] = False
    numbers = torch.arange(ids.numel()).view_as(ids)
    return Targets("text", dict.fromkeys(offsets, numbers), dict.fromkeys(offsets, valid))


def random_ids(n_types: int, seed: int = 0) -> Tensor:
    return torch.randint(n_types, (7, 30), generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 300), st.integers(0, 5))
def test_targets_change_places_among_positions_with_the_same_current_token(
    n_types: int, seed: int
) -> None:
    ids = random_ids(n_types, seed)
    text = text_of(ids, 2)
    found = controls.permuted_targets(text, ids, seed)
    valid = text.valid[2]
    givers, own = found.ids[2][valid], text.ids[2][valid]
    assert torch.equal(givers.sort().values, own)
    assert torch.equal(ids.flatten()[givers], ids[valid])
    # Nobody keeps its own, but where there is nothing to change it for.
    alone = ids[valid].bincount(minlength=n_types)[ids[valid]] == 1
    assert torch.equal(givers == own, alone)
    assert controls.kept_share(valid, ids) == pytest.approx(float(alone.double().mean()))
    assert torch.equal(found.ids[2][~valid], text.ids[2][~valid])
    assert (found.name, found.valid) == ("control", text.valid)


def test_the_order_is_of_the_seed_and_the_offset() -> None:
    ids = random_ids(3)
    text = text_of(ids, 1, 2)
    one, again, other = (controls.permuted_targets(text, ids, seed).ids for seed in (0, 0, 1))
    assert torch.equal(one[2], again[2])
    assert not torch.equal(one[2], other[2])
    assert not torch.equal(one[1], one[2])


def test_a_control_reads_what_the_token_tells_and_nothing_beyond_it() -> None:
    chain = worlds.chain(5, order=2, zeros=False)
    world = worlds.World(chain, 2, {"train": 300, "validation": 60, "test": 200})
    targets = {
        part: controls.permuted_targets(of.only([2]), world.parts[part].token_ids, seed=0)
        for part, of in world.targets.items()
    }
    exact = chain.exact(2)
    beyond = exact.skip_bigram_nats - exact.nats
    assert beyond > 0.04
    assert nats(world, {part: of.only([2]) for part, of in world.targets.items()}) == pytest.approx(
        exact.nats, abs=0.02
    )
    assert nats(world, targets) == pytest.approx(exact.skip_bigram_nats, abs=0.02)


def nats(world: worlds.World, targets: dict[str, Targets]) -> float:
    """Return what a probe of the last layer costs that was fitted to these targets."""
    probe = world.fitted(targets, [max(world.layers)])
    table = world.scored([probe], "test", {"all": world.positions("test")}, targets["test"])
    return float(table["nats_sum"].sum() / table["n"].sum())


IDS = torch.arange(12)[None] * 7 % 97


@torch.no_grad()
def logits_of(model: PreTrainedModel) -> Tensor:
    logits: Tensor = model(IDS).logits
    return logits


def tied(model: PreTrainedModel) -> bool:
    put_in: Any = model.get_input_embeddings()
    out: Any = model.get_output_embeddings()
    return out.weight is put_in.weight


@pytest.mark.parametrize("name", each(quick=("llama", "gpt2", "gpt_neox", "qwen3", "opt", "mamba")))
def test_the_blocks_of_an_untrained_model_and_they_alone_are_drawn_anew(name: str) -> None:
    model = build(name)
    anatomy, logits = find_anatomy(model), logits_of(model)
    config = copy.deepcopy(model.config.to_dict())
    one, again, other = (controls.random_model(model, anatomy, seed) for seed in (0, 0, 1))
    assert type(one) is type(model)
    assert tied(one) == tied(model)
    assert one.config._attn_implementation == model.config._attn_implementation
    states = {"model": model.state_dict(), "one": one.state_dict(), "other": other.state_dict()}
    assert states["one"].keys() == states["model"].keys()
    inside = _of_blocks(model, anatomy.blocks)
    assert 0 < len(inside) < len(states["model"])
    for key, weight in states["model"].items():
        assert torch.equal(states["one"][key], weight) == (key not in inside), key
        assert states["one"][key].data_ptr() != weight.data_ptr()
    assert any(not torch.equal(states["one"][key], states["other"][key]) for key in inside)
    assert torch.equal(logits_of(one), logits_of(again))
    assert not torch.allclose(logits_of(one), logits, atol=1e-3)
    # The input of the first block is the trained one: layer 0 needs no fit of its own.
    made = find_anatomy(one)
    assert torch.equal(*(_first_input(m, a) for m, a in ((model, anatomy), (one, made))))
    # The model that was given is as it was.
    assert model.config.to_dict() == config
    assert one.config is not model.config
    assert torch.equal(logits_of(model), logits)


def _of_blocks(model: PreTrainedModel, blocks: Sequence[nn.Module]) -> set[str]:
    """Return the names of the weights of blocks."""
    owned = {weight.data_ptr() for block in blocks for weight in block.state_dict().values()}
    return {name for name, weight in model.state_dict().items() if weight.data_ptr() in owned}


def _first_input(model: PreTrainedModel, anatomy: Anatomy) -> Tensor:
    (seen,) = stream(model, anatomy, IDS, [0], batch_size=1)
    return seen.resid[0]


def test_the_global_state_of_random_numbers_is_left_alone(tiny_llama: PreTrainedModel) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    controls.random_model(tiny_llama, find_anatomy(tiny_llama), 0)
    assert torch.equal(torch.rand(3), expected)


def test_an_untrained_model_has_dtype_attention_and_mode_of_the_given_one() -> None:
    model = build("llama").bfloat16()
    model.set_attn_implementation("eager")
    made = controls.random_model(model, find_anatomy(model), 0)
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
    assert made.dtype == torch.bfloat16
    assert made.config.dtype == torch.bfloat16
    assert made.config._attn_implementation == "eager"
    assert not made.training
    assert torch.get_default_dtype() == torch.float32


def test_a_model_that_is_spread_over_devices_is_spread_alike(
    tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"model": "cpu", "lm_head": "meta"}
    anatomy = find_anatomy(tiny_llama)
    monkeypatch.setattr(tiny_llama, "hf_device_map", places, raising=False)
    asked = []
    monkeypatch.setattr(controls, "dispatch_model", lambda _, where: asked.append(where))
    controls.random_model(tiny_llama, anatomy, 0)
    assert asked == [places]


def test_a_quantized_model_is_an_error() -> None:
    model = build("llama")
    anatomy = find_anatomy(model)
    model.config.quantization_config = {"bits": 4}
    with pytest.raises(ModelError, match="LlamaForCausalLM is quantized"):
        controls.random_model(model, anatomy, 0)


@pytest.mark.parametrize(
    ("layers", "horizon", "expected"),
    [
        (range(7), 4, ((0, 3, 6), (2,))),
        (range(8), 1, ((0, 3, 7), (1,))),
        ([6, 0], 2, ((0, 6), (2,))),
        ([1, 2, 5, 12], 3, ((1, 5, 12), (2,))),
        ([4], 2, ((4,), (2,))),
    ],
)
def test_by_default_controls_run_at_the_ends_and_the_middle(
    layers: list[int], horizon: int, expected: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    assert controls.cells("default", layers, horizon) == expected


def test_controls_run_everywhere_or_nowhere_if_asked() -> None:
    assert controls.cells("all", [3, 0, 2], 3) == ((0, 2, 3), (1, 2, 3))
    assert controls.cells("none", [3, 0, 2], 3) == ((), ())


@pytest.mark.parametrize(("layers", "horizon"), [([], 2), ([1], 0)])
def test_no_layer_or_no_offset_is_an_error(layers: list[int], horizon: int) -> None:
    with pytest.raises(SettingsError, match="controls need a layer and an offset"):
        controls.cells("default", layers, horizon)

"""Controls: a task to be learned by heart, and a model that has learned nothing."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, chisquare
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.data.targets import Targets
from probekit.errors import DataError, ModelError, SettingsError
from probekit.models.anatomy import Anatomy
from probekit.probes import controls, linear
from probekit.readout import Seen
from probekit.scoring import losses
from support.architectures import CONFIGS, build

TYPES = 3000
FIVE = np.zeros(TYPES)
FIVE[[2, 3, 5, 7, 11]] = [0.4, 0.3, 0.15, 0.1, 0.05]
EACH_TYPE = torch.arange(TYPES).view(30, 100)


def text_of(ids: Tensor, *offsets: int) -> Targets:
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[:, -1] = False
    return Targets(
        "text", {k: ids.roll(-k, dims=1) for k in offsets}, dict.fromkeys(offsets, valid)
    )


def labels(seed: int, *offsets: int, shares: NDArray[np.float64] = FIVE) -> dict[int, Tensor]:
    """Return the label of each token type, by offset."""
    by_offset = dict.fromkeys(offsets, shares)
    text = text_of(EACH_TYPE, *offsets)
    found = controls.control_targets(text, EACH_TYPE, by_offset, seed)
    return {k: ids.flatten() for k, ids in found.ids.items()}


def test_labels_have_the_shares_that_were_given() -> None:
    counts = labels(0, 2)[2].bincount(minlength=TYPES).numpy()
    assert counts.sum() == counts[FIVE > 0].sum()
    assert chisquare(counts[FIVE > 0], TYPES * FIVE[FIVE > 0]).pvalue > 0.001
    assert torch.equal(labels(0, 2, shares=100 * FIVE)[2], labels(0, 2)[2])


def test_labels_at_two_offsets_know_nothing_of_each_other() -> None:
    found = labels(0, 1, 2)
    table = np.zeros((TYPES, TYPES))
    np.add.at(table, (found[1].numpy(), found[2].numpy()), 1)
    five = FIVE > 0
    assert chi2_contingency(table[five][:, five]).pvalue > 0.001


def test_labels_are_a_function_of_the_token_the_seed_and_the_offset_alone() -> None:
    table = labels(0, 2)[2]
    ids = torch.randint(TYPES, (7, 50), generator=torch.Generator().manual_seed(3))
    text = text_of(ids, 2)
    found = controls.control_targets(text, ids, {2: FIVE}, seed=0)
    assert torch.equal(found.ids[2], table[ids])
    assert found.name == "control"
    assert found.valid is text.valid
    other = labels(1, 2)[2]
    assert 0.2 < (table == other).double().mean() < 0.36  # the shares' squares sum to 0.28


def one_hot_part(n_blocks: int, seed: int, text: str) -> tuple[list[Seen], Targets, Tensor]:
    """Return token ids as one-hot vectors; the next token follows from them, or does not."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(12, (n_blocks, 12), generator=draw)
    if text == "chain":
        ids = (ids[:, :1] + 5 * torch.arange(12)) % 12
    hot = nn.functional.one_hot(ids, 12).float()
    return [Seen(ids, {0: hot, 1: hot.roll(-1, dims=1)})], text_of(ids, 1), ids


def accuracy(text: str, *, control: bool) -> float:
    """Return the held-out accuracy of a probe on layer 0."""
    parts = []
    for n_blocks, seed in ((60, 0), (20, 1), (20, 2)):
        stream, targets, ids = one_hot_part(n_blocks, seed, text)
        if control:
            targets = controls.control_targets(targets, ids, {1: np.ones(12)}, seed=0)
        parts.append((stream, targets))
    output = nn.Linear(12, 12, bias=False)
    output.weight.data = torch.eye(12)
    anatomy = Anatomy(nn.Identity(), (nn.Identity(),), (), output, d_model=12)
    probes = linear.fit(parts[0], parts[1], anatomy, [0])
    stream, targets = parts[2]
    [(_, logits)] = probes.predict(stream[0], targets.valid)
    return float(losses.losses(logits, targets.ids[1][targets.valid[1]]).top1.mean())


def test_a_representation_of_the_token_alone_learns_the_control_task_by_heart() -> None:
    chain, control = (accuracy("chain", control=task) for task in (False, True))
    assert chain > 0.99
    assert control > 0.99
    assert abs(chain - control) < 0.01
    # Random text: what was learned by heart was the task, not the text.
    assert accuracy("noise", control=False) < 0.2
    assert accuracy("noise", control=True) > 0.99


def test_an_offset_without_shares_is_an_error() -> None:
    with pytest.raises(DataError, match="offset 2 needs shares there"):
        controls.control_targets(text_of(EACH_TYPE, 1, 2), EACH_TYPE, {1: FIVE}, seed=0)


def test_a_token_outside_of_the_shares_is_an_error() -> None:
    with pytest.raises(DataError, match=r"must be in 0\.\.9, as the shares are, got 2999"):
        controls.control_targets(text_of(EACH_TYPE, 1), EACH_TYPE, {1: np.ones(10)}, seed=0)


IDS = torch.arange(12)[None] * 7 % 97


@torch.no_grad()
def logits_of(model: PreTrainedModel) -> Tensor:
    logits: Tensor = model(IDS).logits
    return logits


def tied(model: PreTrainedModel) -> bool:
    put_in: Any = model.get_input_embeddings()
    out: Any = model.get_output_embeddings()
    return out.weight is put_in.weight


@pytest.mark.parametrize("name", CONFIGS)
def test_an_untrained_model_is_of_the_same_kind_and_its_own_for_each_seed(name: str) -> None:
    model = build(name)
    config, logits = copy.deepcopy(model.config.to_dict()), logits_of(model)
    one, again, other = (controls.random_model(model, seed) for seed in (0, 0, 1))
    assert type(one) is type(model)
    assert tied(one) == tied(model)
    assert one.config._attn_implementation == model.config._attn_implementation
    assert {k: v.shape for k, v in one.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    assert torch.equal(logits_of(one), logits_of(again))
    assert not torch.allclose(logits_of(one), logits_of(other), atol=1e-3)
    assert not torch.allclose(logits_of(one), logits, atol=1e-3)
    # The model that was given is as it was.
    assert model.config.to_dict() == config
    assert one.config is not model.config
    assert torch.equal(logits_of(model), logits)


def test_no_weight_of_an_untrained_model_is_that_of_the_trained(
    tiny_llama: PreTrainedModel,
) -> None:
    trained = dict(tiny_llama.named_parameters())
    for name, own in controls.random_model(tiny_llama, 0).named_parameters():
        assert not torch.equal(own, trained[name])
        assert not own.requires_grad
        assert own.data_ptr() != trained[name].data_ptr()


def test_the_global_state_of_random_numbers_is_left_alone(tiny_llama: PreTrainedModel) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    controls.random_model(tiny_llama, 0)
    assert torch.equal(torch.rand(3), expected)


def test_an_untrained_model_has_dtype_attention_and_mode_of_the_given_one() -> None:
    model = build("llama").bfloat16()
    model.set_attn_implementation("eager")
    made = controls.random_model(model, 0)
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
    monkeypatch.setattr(tiny_llama, "hf_device_map", places, raising=False)
    asked = []
    monkeypatch.setattr(controls, "dispatch_model", lambda _, where: asked.append(where))
    controls.random_model(tiny_llama, 0)
    assert asked == [places]


def test_a_quantized_model_is_an_error() -> None:
    model = build("llama")
    model.config.quantization_config = {"bits": 4}
    with pytest.raises(ModelError, match="LlamaForCausalLM is quantized"):
        controls.random_model(model, 0)


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

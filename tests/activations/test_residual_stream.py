"""The captured residual stream, against hidden_states, transformer_lens and the model's logits."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.activations.residual_stream import Store, stream
from probekit.errors import NumericalError, RunError, SettingsError
from probekit.models.anatomy import Anatomy, find_anatomy
from support.architectures import CONFIGS, VOCABULARY, build
from support.streams import ALL, IDS, whole


def runs_of(module: nn.Module) -> list[None]:
    """Return a list that grows by one with every finished forward pass of a module."""
    runs: list[None] = []
    module.register_forward_hook(lambda *_: runs.append(None))
    return runs


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def llama() -> tuple[PreTrainedModel, Anatomy]:
    model = build("llama")
    return model, find_anatomy(model)


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_are_the_hidden_states_except_for_the_last_which_is_not_normed(name: str) -> None:
    model = build(name)
    anatomy = find_anatomy(model)
    resid = whole(stream(model, anatomy, IDS, ALL, batch_size=2))
    with torch.no_grad():
        output = model(IDS, output_hidden_states=True, use_cache=False)
        # Mamba leaves the input of the first block out of its hidden states.
        shift = 1 if name == "mamba" else 0
        for layer in range(3):
            torch.testing.assert_close(resid[layer + shift], output.hidden_states[layer])
        torch.testing.assert_close(anatomy.decode(resid[3]), output.logits, atol=1e-4, rtol=0)
    # Its projection makes this model's last hidden state narrower.
    if name != "opt-projected":
        assert (resid[3] - output.hidden_states[3]).abs().max() > 0.1


def test_batches_come_in_order_with_their_tokens_and_place(
    llama: tuple[PreTrainedModel, Anatomy],
) -> None:
    batches = stream(*llama, IDS, [3, 0], batch_size=2)
    seen = list(batches)
    assert len(batches) == len(seen) == 3
    assert [each.first_block for each in seen] == [0, 2, 4]
    assert torch.equal(torch.cat([each.token_ids for each in seen]), IDS)
    assert [list(each.resid) for each in seen] == [[0, 3]] * 3


def test_nothing_runs_beyond_the_last_layer_asked_for(
    llama: tuple[PreTrainedModel, Anatomy],
) -> None:
    model, anatomy = llama
    runs = [
        runs_of(block) for block in (*anatomy.blocks, *anatomy.final, anatomy.output_embeddings)
    ]
    list(stream(model, anatomy, IDS, [1, 2], batch_size=5))
    assert [len(each) for each in runs] == [1, 1, 0, 0, 0]
    list(stream(model, anatomy, IDS, [0], batch_size=5))
    assert [len(each) for each in runs] == [1, 1, 0, 0, 0]


def test_without_layers_the_model_does_not_run(llama: tuple[PreTrainedModel, Anatomy]) -> None:
    model, anatomy = llama
    runs = runs_of(anatomy.blocks[0])
    seen = list(stream(model, anatomy, IDS, [], batch_size=2))
    assert [each.resid for each in seen] == [{}, {}, {}]
    assert not runs


@pytest.mark.parametrize("store", ["memory", "device", "disk"])
def test_a_stored_stream_runs_the_model_once_and_gives_the_same(
    llama: tuple[PreTrainedModel, Anatomy], store: Store, tmp_path: Path
) -> None:
    model, anatomy = llama
    runs = runs_of(anatomy.blocks[0])
    batches = stream(model, anatomy, IDS, ALL, batch_size=2, store=store, folder=tmp_path)
    first, second = whole(batches), whole(batches)
    assert len(runs) == 3
    live = whole(stream(model, anatomy, IDS, ALL, batch_size=2))
    for layer in ALL:
        assert torch.equal(first[layer], live[layer])
        assert torch.equal(second[layer], live[layer])
    assert not list(tmp_path.iterdir())


def test_bfloat16_is_stored_as_bfloat16(tmp_path: Path) -> None:
    model = build("llama").bfloat16()
    batches = stream(
        model, find_anatomy(model), IDS, [2], batch_size=2, store="disk", folder=tmp_path
    )
    first, second = whole(batches), whole(batches)
    assert first[2].dtype == second[2].dtype == torch.bfloat16
    assert torch.equal(first[2], second[2])


def test_an_unfinished_pass_is_not_kept(llama: tuple[PreTrainedModel, Anatomy]) -> None:
    model, anatomy = llama
    batches = stream(model, anatomy, IDS, [1], batch_size=2, store="memory")
    next(iter(batches))
    assert torch.equal(whole(batches)[1], whole(stream(model, anatomy, IDS, [1], batch_size=2))[1])


def test_a_live_stream_runs_the_model_every_time(llama: tuple[PreTrainedModel, Anatomy]) -> None:
    runs = runs_of(llama[1].blocks[0])
    batches = stream(*llama, IDS, [1], batch_size=5)
    assert torch.equal(whole(batches)[1], whole(batches)[1])
    assert len(runs) == 2


def test_a_residual_can_meet_autograd(llama: tuple[PreTrainedModel, Anatomy]) -> None:
    (seen,) = stream(*llama, IDS, [2], batch_size=5)
    assert not seen.resid[2].requires_grad
    matrix = torch.eye(32, requires_grad=True)
    loss = (seen.resid[2] @ matrix).square().sum()
    (gradient,) = torch.autograd.grad(loss, matrix)
    assert gradient.shape == matrix.shape


def test_hooks_are_removed_however_the_iteration_ends(
    llama: tuple[PreTrainedModel, Anatomy],
) -> None:
    model, anatomy = llama
    next(iter(stream(model, anatomy, IDS, ALL, batch_size=2)))
    assert hooks_of(model) == 0
    with pytest.raises(IndexError):
        list(stream(model, anatomy, IDS + VOCABULARY, ALL, batch_size=2))
    assert hooks_of(model) == 0


def test_a_model_that_writes_into_its_residual_stream_is_captured_before_it_does(
    llama: tuple[PreTrainedModel, Anatomy],
) -> None:
    model, anatomy = llama
    sound = whole(stream(model, anatomy, IDS, [1], batch_size=5))

    def write(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        args[0].add_(100.0)

    anatomy.blocks[1].register_forward_pre_hook(write)
    assert torch.equal(whole(stream(model, anatomy, IDS, [1, 3], batch_size=5))[1], sound[1])


@pytest.mark.parametrize(
    ("dtype", "way_out"),
    [("float16", "bfloat16 or float32"), ("float32", "float32")],
)
def test_an_activation_that_is_not_finite_is_named(dtype: str, way_out: str) -> None:
    model: Any = build("llama")
    model.to(getattr(torch, dtype))
    anatomy = find_anatomy(model)
    anatomy.blocks[1].register_forward_hook(lambda _, __, output: output / 0)
    message = f"layer 2 are not finite in {dtype}; load the model with --dtype {way_out}"
    with pytest.raises(NumericalError, match=message):
        list(stream(model, anatomy, IDS, ALL, batch_size=2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": [0, 4, -1]}, r"layers at resid_post must be in 0..3 .* got \[-1, 4\]"),
        ({"layers": [0], "site": "mlp_out"}, r"layers at mlp_out must be in 1..3"),
        ({"batch_size": 0}, "batch size must be at least 1, got 0"),
        ({"store": "disk"}, "store `disk` needs an existing folder, got None"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(
    llama: tuple[PreTrainedModel, Anatomy], changed: dict[str, Any], message: str
) -> None:
    settings: dict[str, Any] = {"layers": [1], "batch_size": 2} | changed
    with pytest.raises(SettingsError, match=message):
        stream(*llama, IDS, **settings)


def test_a_full_disk_is_said_before_it_is_filled(
    llama: tuple[PreTrainedModel, Anatomy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(RunError, match="GB free"):
        list(stream(*llama, IDS, [1], batch_size=2, store="disk", folder=tmp_path))

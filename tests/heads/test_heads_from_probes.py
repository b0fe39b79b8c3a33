"""Heads that start as linear probes: they are the probe, and only the rest of them learns."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from probekit.activations.backbone import Backbone
from probekit.errors import SettingsError
from probekit.heads.files import load, save
from probekit.heads.heads import Heads, build
from probekit.heads.training.balanced_loss import Objective
from probekit.heads.training.train import train
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes.probe import Probe, Probes
from probekit.readout import Seen
from support.architectures import build as model_of
from support.architectures import each
from support.small_training import DATA, World, recipe, silent

IDS = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))


def probe_of(found: Anatomy, seed: int = 0) -> Mapping[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    width, vocab = found.d_hidden, found.vocab_size
    return {
        "A": torch.eye(width) + 0.3 * torch.randn(width, width, generator=draw),
        "b": torch.randn(width, generator=draw),
        "c": torch.randn(vocab, generator=draw),
    }


def logits(heads: Heads, backbone: Backbone, offset: int = 2) -> Tensor:
    with torch.no_grad():
        return heads.logits(heads.hidden(backbone.read(IDS, heads.reads), offset), offset)


# Cohere scales its logits, Gemma 2 bounds them, which its probes do not.
@pytest.mark.parametrize("name", each(["llama", "cohere", "gemma2", "gpt2"], quick=["cohere"]))
@pytest.mark.parametrize("kind", ["block", "medusa", "linear"])
def test_it_starts_as_the_probe(name: str, kind: str) -> None:
    model = model_of(name)
    found = find_anatomy(model)
    tensors, backbone = probe_of(found), Backbone(model, found)
    init = "zero" if kind == "block" else None
    heads = build(kind, found, (1, 2), read=1, init=init, probes={2: tensors})

    probe = Probes({(1, 2): Probe(tensors, "minimum", 0.0, 0.0, True, 1.0)}, found, 1)
    seen = Seen(IDS, backbone.read(IDS, {1}).resid)
    (_, wanted), *_ = probe.predict(seen, {2: torch.ones_like(IDS, dtype=torch.bool)})
    torch.testing.assert_close(logits(heads, backbone).flatten(0, 1), wanted, atol=1e-4, rtol=1e-5)

    plain = build(kind, found, (1, 2), read=1, init=init)
    assert torch.equal(logits(heads, backbone, 1), logits(plain, backbone, 1))


def test_what_was_fitted_stays_and_the_rest_learns(tmp_path: Path) -> None:
    world = World("llama")
    tensors = probe_of(world.anatomy)
    heads = build("block", world.anatomy, (1, 2), init="zero", probes={2: tensors})
    before = {k: v.clone() for k, v in heads.state_dict().items()}
    history = train(
        heads, world.backbone, DATA, recipe("heads-only", epochs=4), tmp_path / "x.pt", silent
    )
    after = heads.state_dict()
    assert min(history.best_steps.values()) > 0
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("heads.2.") for name in moved)
    assert not any(name.startswith("maps.") for name in moved)
    trained = sum(p.numel() for p in heads.parameters())
    assert heads.n_values == trained + sum(x.numel() for x in tensors.values())


@pytest.mark.parametrize("name", ["llama", "gemma2"])  # with and without a closed gradient
def test_the_loss_is_that_of_the_probes_logits(name: str) -> None:
    world = World(name)
    heads = build("block", world.anatomy, (2,), init="zero", probes={2: probe_of(world.anatomy)})
    batch = replace(DATA.train, targets=DATA.train.targets.only([2]))
    objective = Objective(heads, world.backbone, "none", "model")
    nats, count = objective.summed_nats(batch)[2]
    with torch.no_grad():
        reading = world.backbone.read(batch.token_ids, heads.reads)
        found = heads.logits(heads.hidden(reading, 2), 2).log_softmax(dim=-1)
    valid, ids = batch.targets.valid[2], batch.targets.ids[2]
    wanted = -found[valid].gather(1, ids[valid][:, None]).sum()
    assert count == int(valid.sum())
    assert nats == pytest.approx(float(wanted), rel=1e-5)
    assert objective.backward(batch, joint=False)[2] == pytest.approx(float(wanted) / count, 1e-5)


def test_a_file_keeps_the_probe(tmp_path: Path) -> None:
    found = find_anatomy(model_of("llama"))
    heads = build("block", found, (1, 2), init="zero", probes={2: probe_of(found)})
    save(heads, tmp_path / "heads.safetensors", "abc")
    again = load(tmp_path / "heads.safetensors", found, "abc")
    assert again.state_dict().keys() == heads.state_dict().keys()
    assert all(torch.equal(x, again.state_dict()[k]) for k, x in heads.state_dict().items())


def test_a_training_from_another_probe_is_another_training(tmp_path: Path) -> None:
    world = World("llama")

    def start(seed: int) -> None:
        probes = {2: probe_of(world.anatomy, seed)}
        heads = build("block", world.anatomy, (1, 2), init="zero", probes=probes)
        train(heads, world.backbone, DATA, recipe("heads-only"), tmp_path / "x.pt", silent)

    start(0)
    start(0)
    with pytest.raises(Exception, match="is of another training"):
        start(1)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"init": "copy"}, "take init zero"),
        ({"init": "zero", "read": "mix"}, "read one layer"),
        ({"init": "zero", "offsets": (1, 3)}, "are of the offsets"),
        ({"kind": "medusa", "own_unembedding": True}, "no own_unembedding"),
    ],
)
def test_choices_that_exclude_each_other_are_an_error(
    choices: dict[str, Any], message: str
) -> None:
    found = find_anatomy(model_of("llama"))
    given = {"kind": "block", "offsets": (1, 2), "probes": {2: probe_of(found)}} | choices
    with pytest.raises(SettingsError, match=message):
        build(anatomy=found, **given)

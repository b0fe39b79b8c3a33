"""Fitted probes as a readout, as a file, and in place of the model's output layer."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from probekit.errors import RunError
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes.files import read_probes, write_probes
from probekit.probes.probe import Probe, ProbeKey, Probes, in_place_of_output
from probekit.readout import Cell, Readout, Seen
from support.architectures import build

VOCABULARY, HIDDEN = 7, 3


def make_anatomy(scale: float = 1.0) -> Anatomy:
    """Return the head of a model of two blocks; what enters it is twice the stream."""
    torch.manual_seed(0)
    double = nn.Linear(HIDDEN, HIDDEN, bias=False)
    double.weight.data = 2 * torch.eye(HIDDEN)
    unembedding = nn.Linear(HIDDEN, VOCABULARY, bias=False)
    blocks = (nn.Identity(), nn.Identity())
    return Anatomy(nn.Identity(), blocks, (double,), unembedding, HIDDEN, scale=scale)


def probe(seed: int, width: int = HIDDEN, vocabulary: int = VOCABULARY) -> Probe:
    draw = torch.Generator().manual_seed(seed)
    return Probe(
        tensors={
            "A": torch.randn(width, width, generator=draw),
            "b": torch.randn(width, generator=draw),
            "c": torch.randn(vocabulary, generator=draw),
        },
        chosen="minimum",
        penalty=0.25,
        excess_nats=0.001,
        converged=True,
        validation_nats=1.5,
    )


def some(scale: float = 1.0) -> Probes:
    keys = ((2, 1), (0, 2), (0, 1))
    return Probes({key: probe(seed) for seed, key in enumerate(keys)}, make_anatomy(scale), 9)


def seen(seed: int = 0) -> Seen:
    draw = torch.Generator().manual_seed(seed)
    resid = {layer: torch.randn(2, 4, HIDDEN, generator=draw) for layer in (0, 2)}
    return Seen(torch.zeros(2, 4, dtype=torch.long), resid)


@settings(max_examples=10)
@given(st.lists(st.booleans(), min_size=8, max_size=8), st.sampled_from([1.0, 0.25]))
def test_a_prediction_is_unembedding_times_affine_map_plus_bias(
    chosen: list[bool], scale: float
) -> None:
    mask, readout, batch = torch.tensor(chosen).view(2, 4), some(scale), seen()
    found = list(readout.predict(batch, {1: mask, 2: torch.ones_like(mask)}))
    cells = [Cell("linear", 1, 0), Cell("linear", 2, 0), Cell("linear", 1, 2)]
    assert [cell for cell, _ in found] == cells
    for cell, logits in found:
        assert cell.layer is not None
        own = readout.probes[cell.layer, cell.offset]
        where = mask if cell.offset == 1 else torch.ones_like(mask)
        assert logits.shape == (int(where.sum()), VOCABULARY)
        for row, z in zip(logits, 2 * batch.resid[cell.layer][where], strict=True):
            by_hand = (
                scale * (readout.anatomy.unembedding @ (own.tensors["A"] @ z + own.tensors["b"]))
                + own.tensors["c"]
            )
            torch.testing.assert_close(row, by_hand, atol=1e-5, rtol=1e-5)


def test_only_offsets_that_are_asked_for_are_predicted() -> None:
    valid = {2: torch.ones(2, 4, dtype=torch.bool)}
    assert [cell for cell, _ in some().predict(seen(), valid)] == [Cell("linear", 2, 0)]
    assert isinstance(some(), Readout)
    assert some().layers == frozenset({0, 2})


def test_parameters_are_counted() -> None:
    assert probe(0).n_parameters == HIDDEN * HIDDEN + HIDDEN + VOCABULARY


def test_saved_and_loaded_probes_are_the_same(tmp_path: Path) -> None:
    path, before = tmp_path / "probes.safetensors", some()
    more: dict[ProbeKey, Probe] = {(2, 2): replace(probe(8), chosen="lens")}
    before = replace(before, probes={**before.probes, **more})
    write_probes(before, path, {"model_fingerprint": "abc"})
    after = read_probes(path, before.anatomy, "abc")
    assert after.n_passes == 9
    assert set(after.probes) == set(before.probes)
    for key, found in after.probes.items():
        for name in ("A", "b", "c"):
            assert torch.equal(found.tensors[name], before.probes[key].tensors[name])
        for name in ("chosen", "penalty", "excess_nats", "converged", "validation_nats"):
            assert getattr(found, name) == getattr(before.probes[key], name)


def test_probes_that_share_the_models_bias_or_are_views_can_be_saved(tmp_path: Path) -> None:
    path, shared, large = tmp_path / "probes.safetensors", torch.ones(VOCABULARY), torch.randn(5, 3)
    own = {k: {**probe(k).tensors, "c": shared, "A": large[k : k + 3].T} for k in (0, 1)}
    fits: dict[ProbeKey, Probe] = {
        (k, 1): replace(probe(k), tensors=tensors) for k, tensors in own.items()
    }
    write_probes(Probes(fits, make_anatomy(), 1), path, {"model_fingerprint": "abc"})
    after = read_probes(path, make_anatomy(), "abc").probes
    assert torch.equal(after[0, 1].tensors["c"], shared)
    assert torch.equal(after[1, 1].tensors["A"], large[1:4].T)


def test_probes_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "probes.safetensors"
    write_probes(some(), path, {"model_fingerprint": "abc"})
    with pytest.raises(RunError, match="were fitted to another model than this one"):
        read_probes(path, make_anatomy(), "abd")


def test_probes_that_are_not_there_are_an_error_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there are no probes at .*nowhere\.safetensors"):
        read_probes(tmp_path / "nowhere.safetensors", make_anatomy(), "abc")


@pytest.mark.parametrize("name", ["llama", "granite", "gptj"])
def test_a_probe_stands_in_for_the_output_layer_and_leaves_it_as_it_was(name: str) -> None:
    model = build(name)
    anatomy = find_anatomy(model)
    own = probe(3, anatomy.d_hidden, anatomy.vocab_size)
    ids = torch.arange(10).view(1, 10)
    with torch.no_grad():
        before = model(ids, output_hidden_states=True)
        with in_place_of_output(anatomy, own):
            replaced = model(ids).logits
        after = model(ids).logits
    # Normed: the last of the hidden states is what enters the unembedding.
    hidden = before.hidden_states[-1] @ own.tensors["A"].T + own.tensors["b"]
    expected = anatomy.scale * hidden @ anatomy.unembedding.T + own.tensors["c"]
    torch.testing.assert_close(replaced, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(after, before.logits)


def test_the_output_layer_comes_back_after_an_error() -> None:
    anatomy = make_anatomy()
    with pytest.raises(KeyError), in_place_of_output(anatomy, probe(0)):
        raise KeyError
    assert not anatomy.output_embeddings._forward_hooks

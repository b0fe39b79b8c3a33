"""The logit lens, the model as a readout, and the divergence by depth."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from probekit.activations.residual_stream import stream
from probekit.data.targets import Targets
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes import logit_lens
from probekit.probes.logit_lens import LogitLens, Model
from probekit.readout import Cell, Readout, Seen
from probekit.scoring.score import score

IDS = torch.randint(0, 97, (3, 10), generator=torch.Generator().manual_seed(0))
LAYERS = (0, 2, 3)
VALID = torch.rand(3, 10, generator=torch.Generator().manual_seed(1)) < 0.6
DOCUMENTS = torch.tensor([[4] * 6 + [7] * 4, [7] * 10, [2] * 10])


@pytest.fixture(scope="module")
def anatomy(tiny_llama: PreTrainedModel) -> Anatomy:
    return find_anatomy(tiny_llama)


@pytest.fixture(scope="module")
def batches(tiny_llama: PreTrainedModel, anatomy: Anatomy) -> list[Seen]:
    return list(stream(tiny_llama, anatomy, IDS, LAYERS, batch_size=2))


@pytest.fixture(scope="module")
def logits(tiny_llama: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = tiny_llama(IDS).logits
    return found


@pytest.fixture(scope="module")
def lenses(tiny_llama: PreTrainedModel) -> dict[int, Tensor]:
    """Return the logits of each layer, from hidden states instead of hooks."""
    with torch.no_grad():
        states = tiny_llama(IDS, output_hidden_states=True).hidden_states
        norm = tiny_llama.get_submodule("model.norm")
        anatomy = tiny_llama.get_submodule("lm_head")
        # The last of the hidden states is normed already.
        return {0: anatomy(norm(states[0])), 2: anatomy(norm(states[2])), 3: anatomy(states[3])}


def test_at_the_last_layer_the_lens_is_the_model(
    batches: list[Seen], anatomy: Anatomy, logits: Tensor
) -> None:
    readout = LogitLens([3], anatomy)
    for seen in batches:
        at = slice(seen.first_block, seen.first_block + len(seen.token_ids))
        [(cell, found)] = readout.predict(seen, {1: VALID[at]})
        assert cell == Cell("lens", 1, 3)
        torch.testing.assert_close(found, logits[at][VALID[at]], atol=1e-4, rtol=1e-4)


def test_earlier_layers_go_through_the_final_norm(
    batches: list[Seen], anatomy: Anatomy, lenses: dict[int, Tensor]
) -> None:
    readout, seen = LogitLens(LAYERS, anatomy), batches[0]
    valid = {1: VALID[:2], 3: VALID[:2] & VALID[:2].roll(1, 1)}
    found = list(readout.predict(seen, valid))
    assert [(cell.layer, cell.offset) for cell, _ in found] == [
        (layer, offset) for layer in LAYERS for offset in (1, 3)
    ]
    for cell, rows in found:
        assert cell.layer is not None
        expected = lenses[cell.layer][:2][valid[cell.offset]]
        torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-4)
    assert readout.layers == frozenset(LAYERS)


@dataclass(frozen=True)
class OneByOne:
    """What a lens predicts, one offset after another."""

    lens: LogitLens
    layers: frozenset[int] = frozenset()

    def predict(self, seen: Seen, valid: Mapping[int, Tensor]) -> Iterator[tuple[Cell, Tensor]]:
        return self.lens.predict(seen, valid)


def test_scored_at_all_offsets_at_once_it_loses_what_it_predicts(
    batches: list[Seen], anatomy: Anatomy
) -> None:
    lens, valid = LogitLens(LAYERS, anatomy), {1: VALID, 2: VALID.roll(1, 1), 3: VALID.roll(2, 0)}
    targets = Targets("text", {k: IDS.roll(-k, 1) for k in valid}, valid)
    found, expected = (
        score([readout], batches, targets, {"all": DOCUMENTS != 4}, DOCUMENTS)
        for readout in (lens, OneByOne(lens))
    )
    pd.testing.assert_frame_equal(found, expected)


def test_the_model_predicts_the_next_token_alone(
    batches: list[Seen], anatomy: Anatomy, logits: Tensor
) -> None:
    readout, seen = Model(anatomy), batches[0]
    [(cell, found)] = readout.predict(seen, {1: VALID[:2], 2: VALID[:2]})
    assert cell == Cell("model", 1)
    torch.testing.assert_close(found, logits[:2][VALID[:2]], atol=1e-4, rtol=1e-4)
    assert list(readout.predict(seen, {2: VALID[:2]})) == []
    assert readout.layers == frozenset({3})
    assert isinstance(readout, Readout)
    assert isinstance(LogitLens([0], anatomy), Readout)


def test_the_divergence_is_zero_at_the_last_layer_and_that_of_torch_elsewhere(
    batches: list[Seen], anatomy: Anatomy, lenses: dict[int, Tensor]
) -> None:
    table = logit_lens.divergences(batches, anatomy, LAYERS, VALID, DOCUMENTS)
    assert list(table.columns) == ["layer", "document", "kl_sum", "n"]
    assert table[["layer", "document"]].values.tolist() == [
        [i, j] for i in LAYERS for j in (2, 4, 7)
    ]
    final = lenses[3].log_softmax(-1)
    for row in table.to_dict("records"):
        inside = VALID & (row["document"] == DOCUMENTS)
        own = lenses[row["layer"]].log_softmax(-1)
        nats = functional.kl_div(final, own, reduction="none", log_target=True).sum(-1)
        assert row["n"] == int(inside.sum())
        assert row["kl_sum"] == pytest.approx(float(nats[inside].sum()), rel=1e-3, abs=1e-4)
        assert (abs(row["kl_sum"]) < 1e-4) == (row["layer"] == 3)


def test_every_valid_position_is_counted_once_for_its_document(
    batches: list[Seen], anatomy: Anatomy
) -> None:
    # Inside: a fixture is shown whole by hypothesis, and a model is long.
    @settings(max_examples=8)
    @given(st.lists(st.booleans(), min_size=30, max_size=30).filter(any))
    def counts(chosen: list[bool]) -> None:
        check_counts(batches, anatomy, torch.tensor(chosen).view(3, 10))

    counts()


def check_counts(batches: list[Seen], anatomy: Anatomy, valid: Tensor) -> None:
    table = logit_lens.divergences(batches, anatomy, [0], valid, DOCUMENTS)
    expected = {n: int((valid & (n == DOCUMENTS)).sum()) for n in (2, 4, 7)}
    assert dict(zip(table["document"], table["n"], strict=True)) == {
        n: count for n, count in expected.items() if count
    }
    assert (table["kl_sum"] > 0).all()


def test_a_layer_that_was_not_captured_is_an_error(batches: list[Seen], anatomy: Anatomy) -> None:
    with pytest.raises(KeyError, match="1"):
        list(LogitLens([1], anatomy).predict(batches[0], {1: VALID[:2]}))

"""Heads as a readout: their scores, their cells, and those that come with a model."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from probekit.activations.backbone import Backbone
from probekit.data.blocks import Blocks
from probekit.data.targets import Targets, text_targets
from probekit.errors import RunError
from probekit.heads.files import load
from probekit.heads.heads import HeadReadout, Heads, build
from probekit.models import catalogue, loading
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.readout import Cell, Readout, Seen
from probekit.scoring.score import score

IDS = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def anatomy(tiny_llama: PreTrainedModel) -> Anatomy:
    return find_anatomy(tiny_llama)


@pytest.fixture(scope="module")
def backbone(tiny_llama: PreTrainedModel, anatomy: Anatomy) -> Backbone:
    return Backbone(tiny_llama, anatomy)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    documents = torch.tensor([[0] * 12 + [1] * 8, [2] * 20])
    return Blocks(IDS, documents)


def totals(readout: Readout, blocks: Blocks, targets: Targets) -> dict[Any, Any]:
    everywhere = {"all": torch.ones_like(blocks.token_ids, dtype=torch.bool)}
    table = score([readout], [Seen(blocks.token_ids, {})], targets, everywhere, blocks.documents)
    sums: dict[Any, Any] = (
        table.groupby("offset")[["n", "nats_sum", "top1_sum"]].sum().to_dict("index")
    )
    return sums


def test_scores_are_those_by_hand(
    backbone: Backbone, anatomy: Anatomy, tiny_llama: PreTrainedModel, blocks: Blocks
) -> None:
    heads = build("block", anatomy, (1, 2), init="copy")
    readout = HeadReadout("head:block", backbone, heads, anatomy)
    assert isinstance(readout, Readout)
    found = totals(readout, blocks, text_targets(blocks, 3))
    assert list(found) == [1, 2]
    with torch.no_grad():
        logits = tiny_llama(IDS).logits.log_softmax(-1)  # both heads are copies
    for offset in (1, 2):
        nats, top1, n = 0.0, 0, 0
        for row in range(2):
            for t in range(20 - offset):
                if blocks.documents[row, t] == blocks.documents[row, t + offset]:
                    target = int(IDS[row, t + offset])
                    nats -= float(logits[row, t, target])
                    top1 += int(logits[row, t].argmax()) == target
                    n += 1
        assert found[offset]["n"] == n
        assert found[offset]["nats_sum"] == pytest.approx(nats, rel=1e-5)
        assert found[offset]["top1_sum"] == top1


@pytest.mark.parametrize(("read", "layer"), [(1, 1), ("mix", None)])
def test_a_cell_names_the_layer_read_and_is_blind(
    backbone: Backbone, anatomy: Anatomy, read: int | str, layer: int | None
) -> None:
    heads = build("linear", anatomy, (2, 4), read=read)
    readout = HeadReadout("head:linear", backbone, heads, anatomy)
    valid = {k: torch.ones_like(IDS, dtype=torch.bool) for k in (1, 2)}
    [(cell, logits)] = readout.predict(Seen(IDS, {}), valid)
    assert cell == Cell("head:linear", 2, layer, blind=True)
    assert logits.shape == (40, 97)
    assert list(readout.predict(Seen(IDS, {}), {3: valid[1]})) == []


def test_the_heads_that_come_with_a_model_beat_new_ones_two_tokens_ahead() -> None:
    loaded = loading.load("tiny-mtp")
    found, folder = (
        find_anatomy(loaded.model),
        Path(catalogue.__file__).parent / "bundled" / "tiny-mtp",
    )
    backbone = Backbone(loaded.model, found)
    own = loading.fingerprint(loaded)
    heads = load(folder / "heads.safetensors", found, own, "block").float()
    assert heads.offsets == (1, 2, 3, 4)
    assert heads.reads == {5}
    with pytest.raises(RunError, match="trained on another model"):
        load(folder / "heads.safetensors", found, "abc")
    text = (Path(pd.__file__).parent / "core" / "frame.py").read_text(encoding="utf-8")[:1500]
    ids = torch.tensor([loaded.tokenizer(text)["input_ids"][:256]])
    blocks = Blocks(ids, torch.zeros_like(ids))
    targets = text_targets(blocks, 4)

    def nats(which: Heads) -> list[float]:
        table = totals(HeadReadout("head:block", backbone, which, found), blocks, targets)
        return [row["nats_sum"] / row["n"] for row in table.values()]

    trained, new = nats(heads), nats(build("block", found, (2,)))
    assert trained == sorted(trained)
    assert trained[1] < new[0] - 0.3
    with torch.no_grad():
        logits = loaded.model(ids).logits
        close(found.logits(heads.hidden(backbone.read(ids, {5}), 1)), logits)

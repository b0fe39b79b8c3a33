"""The probes of a run, applied to a text."""

import pytest
import torch

import probekit
from probekit.activations.residual_stream import stream
from probekit.errors import DataError, SettingsError
from probekit.pipelines.analysis.finished import Run
from support import tiny_run

TEXT = "w1 w10 w16 w2"


def test_a_text_is_read_as_its_positions_are(finished_run: Run) -> None:
    probes = probekit.load_probes(finished_run.folder)
    found = probes.predict_text(TEXT)
    tokenizer = tiny_run.tokenizer()
    ids = torch.tensor([[tiny_run.BOS, *tokenizer(TEXT)["input_ids"]]])
    model = probes.loaded.model
    (seen,) = stream(model, probes.anatomy, ids, probes.layers, batch_size=1)
    valid = {offset: torch.ones(1, 5, dtype=torch.bool) for offset in (1, 2)}
    for cell, logits in probes.predict(seen, valid):
        rows = found[(found["layer"] == cell.layer) & (found["offset"] == cell.offset)]
        assert list(rows["position"]) == [0, 1, 2, 3, 4]
        assert list(rows["token"].str.strip()) == ["<s>", *TEXT.split()]
        best = logits.argmax(1).tolist()
        assert list(rows["predicted"].str.strip()) == tokenizer.convert_ids_to_tokens(best)
        assert rows["probability"].to_numpy() == pytest.approx(logits.softmax(1).amax(1).numpy())
        ends = cell.offset
        assert list(rows["true"].str.strip())[:-ends] == TEXT.split()[ends - 1 :]
        assert rows["true"].isna().sum() == rows["rank"].isna().sum() == ends
        order = logits.argsort(1, descending=True).tolist()
        ranks = [order[at].index(ids[0, at + ends]) + 1 for at in range(5 - ends)]
        assert list(rows["rank"])[:-ends] == ranks
    assert len(found) == 2 * len(probes.layers) * 5


def test_a_text_that_cannot_be_read_is_one_clear_error(finished_run: Run) -> None:
    probes = probekit.load_probes(finished_run.folder)
    for text in ("", "w1 " * 100):
        with pytest.raises(DataError, match=r"the text must be of 1 to 64 tokens, BOS included"):
            probes.predict_text(text)


def test_probes_of_a_model_object_are_read_with_it(finished_run: Run) -> None:
    loaded = probekit.load_probes(finished_run.folder).loaded
    model, tokenizer = loaded.model.requires_grad_(), loaded.tokenizer
    probes = probekit.load_probes(finished_run.folder, model=model, tokenizer=tokenizer)
    assert repr(probes).startswith("6 linear probes of LlamaForCausalLM: (layer, offset) [(0, 1),")
    assert len(probes.predict_text(TEXT)) == 2 * 3 * 5
    with pytest.raises(SettingsError, match="needs its tokenizer"):
        probekit.load_probes(finished_run.folder, model=model)

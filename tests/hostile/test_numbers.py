"""Weights and vocabularies of unusual size: the numbers are right, or one sentence says why not."""

import copy
import math
import random
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import probekit
from probekit.errors import ModelError, NumericalError
from probekit.pipelines.analysis.finished import Run
from support.tiny_run import SETTINGS, documents, jsonl, model, tokenizer

FEW = SETTINGS | {"controls": "none", "marginal": "off", "separator": "none"}
del FEW["device"]
WIDTH = 16


@cache
def trained() -> LlamaForCausalLM:
    return model()


def untied() -> LlamaForCausalLM:
    made = copy.deepcopy(trained())
    made.lm_head.weight = torch.nn.Parameter(made.lm_head.weight.clone(), requires_grad=False)
    return made


def analysed(made: LlamaForCausalLM, words: Any, texts: list[str], folder: Path) -> Run:
    text = str(jsonl(folder / "text.jsonl", texts))
    return probekit.analyze(made, tokenizer=words, text=(text,), output=folder / "run", **FEW)


def nats(run: Run) -> pd.Series:
    rows = run.scores.query("split == 'test' and positions == 'all'")
    return rows.set_index(["readout", "layer", "offset"])["nats"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_of_words_at_random_nothing_is_read_however_few_they_are(size: int, tmp_path: Path) -> None:
    names = ["a", "b"][:size]
    level = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="a"))
    level.pre_tokenizer = WhitespaceSplit()
    torch.manual_seed(0)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=64, bos_token_id=None,
            eos_token_id=None, pad_token_id=None,
        )
    ).eval()  # fmt: skip
    chance = random.Random(1)
    texts = [" ".join(chance.choices(names, k=30 + n)) for n in range(40)]
    run = analysed(made, PreTrainedTokenizerFast(tokenizer_object=level), texts, tmp_path)
    fitted = nats(run).loc[["linear", "unigram", "skip-bigram"]]
    assert fitted.to_numpy() == pytest.approx(math.log(size), abs=0.01)


@pytest.mark.slow
def test_a_massive_activation_of_one_token_changes_little_of_the_rest(tmp_path: Path) -> None:
    made = untied()
    with torch.no_grad():
        made.model.embed_tokens.weight[7, 3] = 1e6
    read = nats(analysed(made, tokenizer(), documents(), tmp_path))
    # One token of 60 is told badly; else the last layer's probe is the model's own output.
    own = float(read.xs("model").iloc[0])
    assert own < 2.2
    assert read["linear", 2, 1] == pytest.approx(own, abs=0.05)
    assert read["linear", 2, 2] < read["unigram"].iloc[1] - 0.5


@pytest.mark.parametrize("layer", ["embed_tokens", "down_proj", "lm_head"])
def test_what_overflows_float16_is_refused_with_another_dtype(layer: str, tmp_path: Path) -> None:
    made = untied()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if layer in name:
                weight.mul_(1e9 if layer == "embed_tokens" else 6e4)
    with pytest.raises((ModelError, NumericalError), match=r"not finite.* float32"):
        analysed(made.half(), tokenizer(), documents(), tmp_path)

"""A planted signal in the shape of a small real model: V = 49,152, width 576.

Tokens fall into eight classes by their number. The classes follow the rule of `Planted`, and each
token is drawn uniformly from its class; what a model of eight tokens holds of them stands in some
coordinates of a stream whose others hold a random vector of the token.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from probekit.pipelines.calibration.planted_signal import Planted

VOCABULARY, WIDTH = 49_152, 576
PLANTED = Planted(n_layers=3, planted_layer=1, erased_layer=2)
# Norm of the random vectors in the stream, and the spread of the logits that come of them.
NORM, SPREAD = 2.0, 0.1
DOCUMENTS, WORDS = 40, 94
BOS, END, UNKNOWN = "<s>", "</s>", "<unk>"


def nats(layer: int, offset: int) -> float:
    """Return the cross-entropy of the best linear readout of a layer: of class, then token."""
    return PLANTED.nats(layer, offset) + math.log(VOCABULARY / PLANTED.n_tokens)


@torch.no_grad()
def model() -> LlamaForCausalLM:
    """Return the model of eight tokens, widened to the shape."""
    draw, small = torch.Generator().manual_seed(0), PLANTED.model()
    own = small.config
    config = LlamaConfig(
        **{**own.to_dict(), "vocab_size": VOCABULARY, "hidden_size": WIDTH, "bos_token_id": 0},
    )
    wide: LlamaForCausalLM = LlamaForCausalLM(config).eval().requires_grad_(False)
    there = dict(small.named_parameters())
    for name, weight in wide.named_parameters():
        part = there[name]
        if "norm" in name:
            # The squared norm of the stream is that of four symbols and of the random vector.
            weight.fill_(math.sqrt((4 + NORM**2) / WIDTH))
        elif name.startswith(("model.embed", "lm_head")):
            rest = torch.randn(VOCABULARY, WIDTH - own.hidden_size, generator=draw)
            of_token = part.repeat(VOCABULARY // PLANTED.n_tokens, 1)
            length = NORM if "embed" in name else SPREAD / NORM * math.sqrt(rest.shape[1])
            rest *= length / rest.norm(dim=1, keepdim=True)
            weight.copy_(torch.cat([of_token, rest], dim=1))
        else:
            weight.zero_()[: part.shape[0], : part.shape[1]] = part
    return wide


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of as many words; the last three of them are special."""
    names = [*(f"w{n}" for n in range(VOCABULARY - 3)), BOS, END, UNKNOWN]
    words = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token=UNKNOWN))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=BOS, eos_token=END, unk_token=UNKNOWN
    )


def save(folder: Path) -> dict[str, Any]:
    """Write the model and a text; return both as settings."""
    model().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    draw = torch.Generator().manual_seed(1)
    classes = PLANTED.sample(DOCUMENTS, WORDS, draw)
    # Not the last of a class: three of these are special.
    of_class = torch.randint(VOCABULARY // PLANTED.n_tokens - 1, classes.shape, generator=draw)
    ids: Tensor = classes + PLANTED.n_tokens * of_class
    texts = [" ".join(f"w{token}" for token in row) for row in ids.tolist()]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "text.jsonl").write_text(lines, encoding="utf-8")
    return {"model": str(folder / "model"), "text": (str(folder / "text.jsonl"),)}

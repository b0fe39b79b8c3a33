"""A tiny trained model, a small text for it, and the settings of runs on them."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS, END, UNKNOWN = 0, 1, 2
WORDS = 57
VOCABULARY = WORDS + 3
DOCUMENTS = 40

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "block": 32,
    "offsets": 2,
    "marginal_positions": 24,
    "max_branches": 8,
    "batch_size": 8,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of words w0 ..., whose BOS has id 0 and whose end has id 1."""
    names = ["<s>", "</s>", "<unk>", *(f"w{n}" for n in range(WORDS))]
    words = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def documents(count: int = DOCUMENTS, seed: int = 0) -> list[str]:
    """Return texts of 30 to 60 words, most of which follow from the word before."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        words = [chance.randrange(WORDS)]
        for _ in range(chance.randrange(29, 59)):
            follows = chance.random() < 0.8
            words.append((words[-1] * 7 + 3) % WORDS if follows else chance.randrange(WORDS))
        found.append(" ".join(f"w{word}" for word in words))
    return found


def jsonl(path: Path, texts: list[str]) -> Path:
    """Write texts as JSON lines."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def model(steps: int = 60) -> LlamaForCausalLM:
    """Return a Llama of two blocks that has learnt something of such texts."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        bos_token_id=BOS, eos_token_id=END, tie_word_embeddings=True,
    )  # fmt: skip
    trained = LlamaForCausalLM(config)
    words = tokenizer()
    ids = [words(text)["input_ids"][:30] for text in documents(32 * steps, seed=1)]
    batches = torch.tensor([[BOS, *row] for row in ids]).view(steps, 32, -1)
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.02)
    for batch in batches:
        optimizer.zero_grad()
        trained(batch, labels=batch).loss.backward()
        optimizer.step()
    trained.eval()
    trained.requires_grad_(False)
    return trained

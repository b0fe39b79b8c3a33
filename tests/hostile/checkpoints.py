"""Checkpoints.

A folder of a small model of which one file is damaged or says something else.
"""

import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from transformers import BertConfig, T5Config

from hostile.cases import Case
from support import tiny_run
from support.architectures import build
from support.damage import Damage, changed


@cache
def saved() -> tempfile.TemporaryDirectory[str]:
    """Return the folder of a model, made once and never changed."""
    folder = tempfile.TemporaryDirectory(prefix="probekit-checkpoint-")
    build("llama").save_pretrained(folder.name)
    tiny_run.tokenizer().save_pretrained(folder.name)
    return folder


def damaged(damage: Damage) -> Callable[[Path], list[str]]:
    """Return what makes a text and the folder `m` of a model, damages it, and the command."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(saved().name, folder / "m")
        tiny_run.jsonl(folder / "a.jsonl", tiny_run.documents())
        damage(folder / "m")
        return ["doctor", "./m", "--text", "a.jsonl"]

    return make


def replaced(file: str, content: bytes) -> Callable[[Path], list[str]]:
    return damaged(lambda folder: (folder / file).write_bytes(content))


def configured(**values: Any) -> Callable[[Path], list[str]]:
    return damaged(changed("config.json", **values))


def tokens(**values: Any) -> Callable[[Path], list[str]]:
    return damaged(changed("tokenizer.json", **values))


def adapter(base: str) -> Damage:
    """Return what leaves of a model's folder an adapter that stands on another."""

    def damage(folder: Path) -> None:
        (folder / "config.json").unlink()
        (folder / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{base}"}}')

    return damage


def packed(content: bytes) -> Callable[[Path], list[str]]:
    """Return what writes a file of gguf, and the command."""

    def make(folder: Path) -> list[str]:
        (folder / "m.gguf").write_bytes(content)
        return ["doctor", "./m.gguf"]

    return make


def quantized(how: dict[str, Any]) -> Callable[[Path], list[str]]:
    """Return what says of a model that it is quantized, and the command that asks for it."""
    make = configured(quantization_config=how)
    return lambda folder: [*make(folder), "--quantization", "bnb-4bit"]


CONFIGURATION = "the configuration of ./m could not be loaded from m: "
WEIGHTS = "the weights of ./m could not be loaded from m: "
TOKENIZER = "the tokenizer of ./m could not be loaded from m: "
VALIDATED = CONFIGURATION + "Validation error for field "
SHAPES = WEIGHTS + "its weights have other shapes than config.json describes."
MASKED = BertConfig(architectures=["BertForMaskedLM"])

CASES = (
    Case("null", replaced("config.json", b"null"), CONFIGURATION),
    Case("nothing", replaced("config.json", b""), CONFIGURATION + "…is not a valid JSON file."),
    Case(
        "a depth", replaced("config.json", b'{"a":' * 99_999), CONFIGURATION + "maximum recursion"
    ),
    Case("no model type", replaced("config.json", b"{}"), CONFIGURATION + "Unrecognized model"),
    Case("a type of none", configured(model_type="nonesuch"), CONFIGURATION),
    Case("a list for a type", configured(model_type=["llama"]), CONFIGURATION + "unhashable"),
    Case("a number for a class", configured(architectures=[3]), CONFIGURATION + "sequence item 0"),
    Case("a word for a number", configured(vocab_size="abc"), VALIDATED + "'vocab_size'"),
    Case("not a number", configured(hidden_size=float("nan")), VALIDATED + "'hidden_size'"),
    Case("no heads", configured(num_attention_heads=0), CONFIGURATION + "integer modulo by zero."),
    Case("no keys", configured(num_key_value_heads=0), WEIGHTS + "integer division or modulo"),
    Case(
        "a width that no heads divide",
        configured(hidden_size=33),
        CONFIGURATION + "…not a multiple",
    ),
    Case("another width", configured(hidden_size=64), SHAPES),
    Case("a smaller vocabulary", configured(vocab_size=96), SHAPES),
    Case("a vast vocabulary", configured(vocab_size=10**12), SHAPES),
    Case("half a layer", configured(num_hidden_layers=2.5), VALIDATED + "'num_hidden_layers'"),
    Case("no layers", configured(num_hidden_layers=0), "has 0 blocks, so there are no layers"),
    Case(
        "fewer than no layers", configured(num_hidden_layers=-1), "expected one list of -1 modules"
    ),
    Case(
        "another layer", configured(num_hidden_layers=4), "lacks 9 weights, which would stay random"
    ),
    Case(
        "a layer less", configured(num_hidden_layers=2), "has 3 blocks, and its config.json makes a"
    ),
    Case("a word for its length", configured(max_position_embeddings="64"), VALIDATED),
    Case(
        "no length",
        configured(max_position_embeddings=0),
        "./m takes 0 tokens, as its configuration",
    ),
    Case("too short", configured(max_position_embeddings=2), "./m takes 2 tokens, …takes 3: BOS"),
    Case("padding beyond", configured(pad_token_id=10**6), WEIGHTS + "Padding_idx must be within"),
    Case("a dtype", configured(dtype="floaty"), CONFIGURATION + "…'floaty'"),
    Case("an activation", configured(hidden_act="nonesuch"), WEIGHTS + "KeyError 'nonesuch'."),
    Case("a word for quantization", configured(quantization_config="x"), CONFIGURATION),
    Case("no quantization", configured(quantization_config={}), WEIGHTS + "…no `quant_method`"),
    Case(
        "angles that are none",
        configured(rope_parameters={"rope_type": "default", "rope_theta": 0}),
        "logits that are not finite",
    ),
    Case(
        "a norm that is none", configured(rms_norm_eps=float("nan")), "logits that are not finite"
    ),
    Case(
        "an encoder", damaged(MASKED.save_pretrained), "(bert) is an encoder, or no language model"
    ),
    Case("two halves", damaged(T5Config().save_pretrained), "(t5) is an encoder-decoder model"),
    Case("unlike its neighbour", configured(model_type="gpt2"), "weights, which would stay random"),
    Case("a list of settings", replaced("tokenizer_config.json", b"[]"), TOKENIZER),
    Case(
        "a number for a token",
        damaged(changed("tokenizer_config.json", eos_token=5)),
        TOKENIZER + "…int",
    ),
    Case("a tokenizer unknown", tokens(model={"type": "Foo"}), TOKENIZER),
    Case("a pre-tokenizer unknown", tokens(pre_tokenizer={"type": "Foo"}), TOKENIZER),
    Case("a tokenizer of nothing", replaced("tokenizer.json", b"\0"), TOKENIZER),
    Case("cut weights", replaced("model.safetensors", b"\0" * 100), WEIGHTS + "…header"),
    Case("no weights", replaced("model.safetensors", b""), WEIGHTS),
    Case(
        "an adapter",
        damaged(lambda folder: (folder / "config.json").rename(folder / "adapter_config.json")),
        "m holds an adapter, and its adapter_config.json does not say on which model it stands",
    ),
    Case(
        "an adapter on itself", damaged(adapter("./m")), "holds an adapter on an adapter, ./m: me"
    ),
    Case(
        "an adapter on nothing", damaged(adapter("./none")), "no model called './none': There is no"
    ),
    Case("half a gguf", packed(b"GGUF\3\0"), "the configuration of ./m.gguf could not be loaded"),
    Case("quantized twice", quantized({"quant_method": "gptq", "bits": 4}), "already (gptq)", 2),
)

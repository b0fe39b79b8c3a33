"""Tokenizers.

Files of a built-in model's tokenizer, damaged, foreign, or full of what a page must not obey.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.cases import Case
from hostile.texts import rows
from support.layers import LIBRARY

BUNDLED = LIBRARY / "models" / "bundled" / "tiny-s"
Change = Callable[[Any], object]


def tokenizer(change: Change, file: str = "tokenizer.json") -> Callable[[Path], list[str]]:
    """Return what copies a model, changes a JSON file of its tokenizer, and analyses it."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(BUNDLED, folder / "m")
        (folder / "a.jsonl").write_bytes(rows())
        path = folder / "m" / file
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content))
        few = ("--max-tokens", "2000", "--separator", "none", "--dry-run")
        return ["analyze", "--model", "./m", "--text", "a.jsonl", *few]

    return make


def written(content: bytes) -> Callable[[Path], list[str]]:
    """Return what puts other bytes in the place of tokenizer.json, and analyses the model."""
    whole = tokenizer(lambda _: None)

    def make(folder: Path) -> list[str]:
        arguments = whole(folder)
        (folder / "m" / "tokenizer.json").write_bytes(content)
        return arguments

    return make


def renamed(to: str) -> Change:
    """Return what calls the last token something else."""

    def change(content: Any) -> None:
        vocabulary = content["model"]["vocab"]
        [old] = [
            token for token, number in vocabulary.items() if number == max(vocabulary.values())
        ]
        content["model"]["merges"] = [m for m in content["model"]["merges"] if "".join(m) != old]
        vocabulary[to] = vocabulary.pop(old)

    return change


def added(**changed: Any) -> Change:
    """Return what adds a token."""
    usual = {"id": 400, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False}
    usual |= {"normalized": False, "special": True}
    return lambda content: content["added_tokens"].append(usual | changed)


def configured(**values: Any) -> Callable[[Path], list[str]]:
    return tokenizer(lambda content: content.update(values), "tokenizer_config.json")


UNREAD = "the tokenizer of ./m could not be loaded from m: "

CASES = (
    Case("half a file", written(b'{"version": "1.0", "truncation": nu'), UNREAD),
    Case("no JSON", written(b"\x80\x04\x95"), UNREAD),
    Case("nested too deep", written(b"[" * 100_000), UNREAD),
    Case("UTF-16", written('{"version": "1.0"}'.encode("utf-16")), UNREAD),
    Case("no model", tokenizer(lambda content: content.pop("model")), UNREAD),
    Case("no merges", tokenizer(lambda content: content["model"].pop("merges")), UNREAD),
    Case(
        "a foreign decoder",
        tokenizer(lambda content: content.update(decoder={"type": "X"})),
        UNREAD,
    ),
    Case("a token of markup", tokenizer(renamed("<script>alert(1)</script>")), "Plan: ", 0),
    Case("a token of an escape", tokenizer(renamed("\x1b[31m\0")), "Plan: ", 0),
    Case("a token right to left", tokenizer(renamed("\u202e")), "Plan: ", 0),
    Case("a token of 100,000 characters", tokenizer(renamed("x" * 100_000)), "Plan: ", 0),
    Case("an id beyond the model", tokenizer(added(id=10**6)), "Plan: ", 0),
    Case(
        "an id beyond the model, in the text",
        tokenizer(added(id=10**6, content="was", special=False)),
        "the text holds 'was', token 2048 of the tokenizer, and the vocabulary of ./m ends at 2047",
    ),
    Case("an id below 0", tokenizer(added(id=-1)), UNREAD),
    Case("an id beyond all", tokenizer(added(id=2**40)), UNREAD),
    Case("a template that would run", configured(chat_template="{{ 9**9**9 }}"), "Plan: ", 0),
    Case("a class unknown", configured(tokenizer_class="Nobody"), "Plan: ", 0),
    Case("a longest in words", configured(model_max_length="long"), UNREAD),
)

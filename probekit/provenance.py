"""Provenance of numbers: digests of texts and tokenizers, versions, machine, command."""

import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

PACKAGES = ("probekit-mtp", "torch", "transformers", "transformer-lens", "numpy", "tokenizers")

# Parts of a tokenizer that decide which tokens a text becomes.
TOKENIZING = ("added_tokens", "normalizer", "pre_tokenizer", "model")


def digest(value: Any) -> str:
    """Return the sha256 of a value that JSON can hold; the order of keys does not matter.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_texts(texts: Iterable[str]) -> str:
    """Return one sha256 of texts, their order and their borders included."""
    whole = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        whole.update(len(encoded).to_bytes(8, "big") + encoded)
    return whole.hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the sha256 of what makes text tokens: vocabulary, merges, BOS and end.

    What a tokenizer adds to a text, and how tokens become text again, do not count: no
    document is tokenized with special tokens added.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts: dict[str, Any] = {"bos": tokenizer.bos_token_id, "end": tokenizer.eos_token_id}
    if backend is None:
        parts |= {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        whole = json.loads(backend.to_str())
        parts |= {part: whole[part] for part in TOKENIZING}
    return digest(parts)


def versions() -> Mapping[str, str]:
    """Return the versions of Python and of the packages that compute the numbers."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def commit() -> dict[str, str]:
    """Return the commit of the checkout that this is, as an entry of `versions`; else nothing."""
    root = Path(__file__).parents[1]
    with suppress(OSError):
        git = root / ".git"
        if git.is_file():  # of a worktree
            git = root / git.read_text(encoding="utf-8").removeprefix("gitdir: ").strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            shared = git / "commondir"
            common = git / shared.read_text(encoding="utf-8").strip() if shared.exists() else git
            head = (common / head.removeprefix("ref: ")).read_text(encoding="utf-8").strip()
        return {"probekit-commit": head}
    return {}


def machine(device: torch.device) -> str:
    """Return what kind of device this is, in words."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def command(otherwise: str) -> str:
    """Return the command line of probekit, as a person would type it.

    Args:
        otherwise: What is returned of any other program, whose command line is its own business:
            how to repeat the run.
    """
    path = Path(sys.argv[0])
    if path.name == "probekit":
        program = "probekit"
    elif (path.parent.name, path.name) == ("probekit", "__main__.py"):
        program = "python -m probekit"
    else:
        return otherwise
    return shlex.join([*program.split(), *sys.argv[1:]])

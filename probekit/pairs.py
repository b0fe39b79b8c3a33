"""Samples of the paper's protocol: pairs (source, target) in its template, and open-ended texts.

A sample is token ids and the exact mask of its target's tokens: those that hold at least one
character of the target. Accuracy is taken where such a token is predicted.

Source: Mehra, Alonso Garcia and Mauch (2025), appendix A: IWSLT 2017 de-en in a template;
targets of at least 20 tokens; the last 20 tokens of a sample.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit.errors import DataError, ModelError
from probekit.text import Document

TEMPLATE = "Translate the following German sentence to English: {source}\n---\nTranslated: "
FEWEST_TARGET_TOKENS = 20
LAST = 20
# "About 200 tokens", as the paper's open-ended texts; from half of it on a text is taken whole.
OPEN_TOKENS = 200
FEWEST_OPEN_TOKENS = 100
# The token two after the first of a text is the first that both offsets can be asked for.
OPEN_SKIPPED = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """A source and its target.

    Attributes:
        name: Line or row.
        source: What is to be translated.
        target: The reference.
    """

    name: str
    source: str
    target: str


@dataclass(frozen=True)
class Sample:
    """Token ids of one sample, and which of them are its target's.

    Attributes:
        name: Line, row or file.
        token_ids: Token ids, BOS included where the tokenizer has one, shape (pos,).
        target: True where the token belongs to the target, shape (pos,).
    """

    name: str
    token_ids: Int[Tensor, " pos"]
    target: Bool[Tensor, " pos"]

    def last(self, count: int = LAST) -> Bool[Tensor, " pos"]:
        """Return the mask of the last `count` tokens of the target, shape (pos,).

        Raises:
            DataError: If the target has fewer.
        """
        places = self.target.nonzero()[:, 0]
        if len(places) < count:
            raise DataError(f"{self.name}: its target has {len(places)} tokens, {count} are needed")
        mask = torch.zeros_like(self.target)
        mask[places[-count:]] = True
        return mask


def asking(tokens: Bool[Tensor, " pos"], offset: int) -> Bool[Tensor, " pos"]:
    """Return the positions from which tokens are predicted at an offset, shape (pos,).

    >>> asking(torch.tensor([False, False, True, True]), 2).tolist()
    [True, True, False, False]
    """
    found = torch.zeros_like(tokens)
    found[:-offset] = tokens[offset:]
    return found


def holds_pairs(location: str, source_field: str, target_field: str) -> bool:
    """Whether a text's first row has both fields, so that it is pairs and not documents."""
    if not _has_rows(location):
        return False
    _, row = next(_rows(location), ("", {}))
    return all(isinstance(_value(row, name), str) for name in (source_field, target_field))


def read(
    location: str, source_field: str = "source", target_field: str = "target"
) -> Iterator[Pair]:
    """Yield the pairs of a JSONL file or of a Hub data set; rows with an empty side are left out.

    Args:
        location: A .jsonl or .ndjson file, or hub:REPOSITORY[@CONFIG][:SPLIT].
        source_field: Name of the source in a row; dots go into nested objects
            (`translation.de`).
        target_field: Name of the target.

    Raises:
        DataError: If it cannot be read, or a row lacks a field.
    """
    if not _has_rows(location):
        raise DataError(
            f"pairs are read from .jsonl files and hub:REPOSITORY[@CONFIG][:SPLIT], got {location}"
        )
    for name, row in _rows(location):
        source, target = (
            _text_of(row, field, f"{location} {name}") for field in (source_field, target_field)
        )
        if source.strip() and target.strip():
            yield Pair(name, source.strip(), target.strip())


def _has_rows(location: str) -> bool:
    return location.startswith("hub:") or Path(location).suffix in {".jsonl", ".ndjson"}


def _rows(location: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if location.startswith("hub:"):
        yield from _hub(location.removeprefix("hub:"))
        return
    try:
        # Line feeds alone end lines: JSON strings may hold the other line ends of Unicode.
        with Path(location).expanduser().open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"line {number}", _object(line, f"{location} line {number}")
    except OSError as error:
        raise DataError(f"{location} cannot be read: {error.strerror}") from None


def _object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{where} is not JSON in UTF-8: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where} must be an object, got {type(row).__name__}")
    return row


def _hub(location: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        import datasets
    except ImportError:
        raise DataError(
            "reading a Hub data set needs one more package: pip install datasets"
        ) from None
    place, _, split = location.partition(":")
    repository, _, config = place.partition("@")
    try:
        rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(
            repository, config or None, split=split or "train", streaming=True
        )
        for number, row in enumerate(rows, start=1):
            yield f"row {number}", row
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"the Hub data set {location!r} cannot be read: {error}. Where the Hub is out of "
            "reach, give the pairs as a JSONL file with the fields source and target"
        ) from error


def _value(row: object, field: str) -> object:
    for part in field.split("."):
        row = row.get(part) if isinstance(row, Mapping) else None
    return row


def _text_of(row: Mapping[str, Any], field: str, where: str) -> str:
    found = _value(row, field)
    if not isinstance(found, str):
        raise DataError(
            f"{where} has no text field {field!r}; its fields are {sorted(row)}. Name the right "
            "ones with --source-field and --target-field (translation.de goes into an object)"
        )
    return found


def sample(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Return a pair in the paper's template, with the mask of the target's tokens.

    Raises:
        ModelError: If the tokenizer does not say which characters a token stands for.
        DataError: If its tokens do not reach from the first to the last character of the target.
    """
    prompt = TEMPLATE.format(source=pair.source)
    ids, spans = _encoded(prompt + pair.target, tokenizer)
    start, end = len(prompt), len(prompt) + len(pair.target)
    # A token that holds the space before the target, too, is the target's first token.
    inside = [last > start for _, last in spans]
    covered = spans[inside.index(True) :] if any(inside) else []
    if not covered or covered[0][0] > start or covered[-1][1] < end:
        raise DataError(
            f"{pair.name}: this tokenizer's offsets do not cover the target, so that its tokens "
            "cannot be told from the prompt's"
        )
    return _with_bos(pair.name, ids, inside, tokenizer)


def open_sample(document: Document, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Return the first 200 tokens of a document; its target is all but the first two."""
    ids, _ = _encoded(document.text, tokenizer)
    inside = [place >= OPEN_SKIPPED for place in range(len(ids[:OPEN_TOKENS]))]
    return _with_bos(document.name, ids[:OPEN_TOKENS], inside, tokenizer)


def _encoded(
    string: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[tuple[int, int]]]:
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say which characters a token stands for; pairs "
            "need a fast tokenizer (tokenizer.json)"
        )
    found = tokenizer(string, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return found["input_ids"], found["offset_mapping"]


def _with_bos(
    name: str, ids: Sequence[int], inside: Sequence[bool], tokenizer: PreTrainedTokenizerBase
) -> Sample:
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    target = torch.tensor([False] * len(bos) + list(inside))
    return Sample(name, torch.tensor([*bos, *ids]), target)


def pair_samples(
    location: str,
    fields: tuple[str, str],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    longest: int | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a text of pairs in an order drawn by seed, short targets left out.

    The order is of all pairs, so that models with other tokenizers get mostly the same samples.

    Args:
        location: Where the pairs are.
        fields: Names of source and target.
        tokenizer: A fast tokenizer.
        seed: Seed of the order.
        longest: Tokens that the model takes; longer samples are left out.

    Raises:
        DataError: While iterating, if no target has 20 tokens.
    """
    pairs = list(read(location, *fields))
    made = (sample(pair, tokenizer) for pair in _shuffled(pairs, seed))
    why = f"no target has {FEWEST_TARGET_TOKENS} tokens or more"
    return _some(made, FEWEST_TARGET_TOKENS, longest, f"{location}: {why} ({len(pairs)} pairs)")


def open_samples(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    longest: int | None = None,
) -> Iterator[Sample]:
    """Yield the samples of open-ended texts in an order drawn by seed, short texts left out.

    Raises:
        DataError: While iterating, if no text has 100 tokens.
    """
    made = (open_sample(document, tokenizer) for document in _shuffled(documents, seed))
    why = f"no text has {FEWEST_OPEN_TOKENS} tokens or more"
    return _some(made, FEWEST_OPEN_TOKENS - OPEN_SKIPPED, longest, why)


def _shuffled(items: Sequence[T], seed: int) -> Iterator[T]:
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    return (items[index] for index in order.tolist())


def _some(
    samples: Iterable[Sample], fewest: int, longest: int | None, why_none: str
) -> Iterator[Sample]:
    any_yet = False
    for found in samples:
        fits = longest is None or len(found.token_ids) <= longest
        if fits and int(found.target.sum()) >= fewest:
            any_yet = True
            yield found
    if not any_yet:
        raise DataError(why_none)

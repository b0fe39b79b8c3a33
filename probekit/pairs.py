"""Samples of the paper's protocol: pairs (source, target) in its template, and open-ended texts.

A sample is token ids and the exact mask of its target's tokens: those that hold at least one
character of the target. Accuracy is taken where such a token is predicted.

Source: Mehra, Alonso Garcia and Mauch (2025), appendix A: IWSLT 2017 de-en in a template;
targets of at least 20 tokens; the last 20 tokens of a sample.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit import rows
from probekit.errors import DataError, ModelError
from probekit.settings import Settings
from probekit.text import Document
from probekit.tokens import TokenizedDocument

TEMPLATE = "Translate the following German sentence to English: {source}\n---\nTranslated: "
FEWEST_TARGET_TOKENS = 20
LAST = 20
# "About 200 tokens", as the paper's open-ended texts; from half of it on a text is taken whole.
OPEN_TOKENS = 200
FEWEST_OPEN_TOKENS = 100
# The token two after the first of a text is the first that both offsets can be asked for.
OPEN_SKIPPED = 2

USUAL_FIELDS = Settings.source_field, Settings.target_field
WAY_OUT = (
    "Name the right ones with --source-field and --target-field (translation.de goes into an "
    "object)"
)

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
    fields = source_field, target_field
    row = _first(location, fields)
    return all(isinstance(rows.value(row, name), str) for name in fields)


def require_named(location: str, source_field: str, target_field: str) -> None:
    """Refuse to take rows for documents where a user named the fields of pairs.

    Raises:
        DataError: If a field is not the usual one and the first row lacks one of the two.
    """
    fields = source_field, target_field
    if fields != USUAL_FIELDS and (row := _first(location, fields)):
        for field in fields:
            rows.text(row, field, f"the first row of {location}", WAY_OUT)


def _first(location: str, fields: tuple[str, str]) -> rows.Row:
    """Return the first row of what is read as rows, an empty one where there is none."""
    is_hub = location.startswith(rows.HUB)
    if not rows.are_at(location) or not (is_hub or Path(location).expanduser().is_file()):
        return {}
    _, row = next(rows.read(location, fields), ("", {}))
    return row


def read(
    location: str, source_field: str = USUAL_FIELDS[0], target_field: str = USUAL_FIELDS[1]
) -> Iterator[Pair]:
    """Yield the pairs of a text; rows with an empty side are left out.

    Args:
        location: A .jsonl, .ndjson or .parquet file, or hub:REPOSITORY[@CONFIG][:SPLIT].
        source_field: Name of the source in a row; dots go into nested objects
            (`translation.de`).
        target_field: Name of the target.

    Raises:
        DataError: If it cannot be read, or a row lacks a field.
    """
    if not rows.are_at(location):
        raise DataError(f"pairs are read from {rows.WHERE}, got {location}")
    for name, row in rows.read(location, (source_field, target_field)):
        source, target = (
            rows.text(row, field, f"{location} {name}", WAY_OUT).strip()
            for field in (source_field, target_field)
        )
        if source and target:
            yield Pair(name, source, target)


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


def tokenized_samples(
    documents: Sequence[TokenizedDocument], bos: int | None, seed: int
) -> Iterator[Sample]:
    """Yield the samples of tokenized documents in an order drawn by seed, short ones left out.

    Pairs are taken whole; of other documents the first 200 tokens.

    Args:
        documents: Pairs, whose prompts are no targets, or open-ended texts.
        bos: First token of each sample, or None.
        seed: Seed of the order.

    Raises:
        DataError: While iterating, if no target is long enough.
    """
    made = (_tokenized_sample(document, bos) for document in _shuffled(documents, seed))
    why = (
        f"no test document has {FEWEST_OPEN_TOKENS} tokens, and no pair a target of "
        f"{FEWEST_TARGET_TOKENS}: give more or longer text"
    )
    return _some(made, FEWEST_TARGET_TOKENS, None, why)


def _tokenized_sample(document: TokenizedDocument, bos: int | None) -> Sample:
    ids, prompt = document.ids, document.prompt
    if not prompt:
        # Too short a text is left out as one without a target.
        long = len(ids) >= FEWEST_OPEN_TOKENS
        ids, prompt = ids[:OPEN_TOKENS], OPEN_SKIPPED if long else len(ids)
    before = [] if bos is None else [bos]
    inside = [place >= len(before) + prompt for place in range(len(before) + len(ids))]
    return Sample(document.name, torch.tensor([*before, *ids]), torch.tensor(inside))


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

"""Samples of the paper's protocol: pairs in its template, and open-ended texts.

A sample is token ids and the exact mask of its target's tokens: those that hold at least one
character of the target. Accuracy is taken where such a token is predicted.

Source: Mehra, Alonso Garcia and Mauch (2025), appendix A: targets of at least 20 tokens; the
last 20 tokens of a sample.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import Document
from probekit.data.pair_tokens import Sample, encoded, sample, with_bos
from probekit.data.pairs import Pair
from probekit.errors import DataError

FEWEST_TARGET_TOKENS = 20
# "About 200 tokens", as the paper's open-ended texts; from half of it on a text is taken whole.
OPEN_TOKENS = 200
FEWEST_OPEN_TOKENS = 100
# The token two after the first of a text is the first that both offsets can be asked for.
OPEN_SKIPPED = 2

T = TypeVar("T")


def asking(tokens: Bool[Tensor, " pos"], offset: int) -> Bool[Tensor, " pos"]:
    """Return the positions from which tokens are predicted at an offset, shape (pos,).

    >>> asking(torch.tensor([False, False, True, True]), 2).tolist()
    [True, True, False, False]
    """
    found = torch.zeros_like(tokens)
    found[:-offset] = tokens[offset:]
    return found


def open_sample(document: Document, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Return the first 200 tokens of a document; its target is all but the first two."""
    ids, _ = encoded(document.text, tokenizer)
    inside = [place >= OPEN_SKIPPED for place in range(len(ids[:OPEN_TOKENS]))]
    return with_bos(document.name, ids[:OPEN_TOKENS], inside, tokenizer)


def pair_samples(
    pairs: Sequence[Pair],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    longest: int | None = None,
) -> Iterator[Sample]:
    """Yield the samples of pairs in an order drawn by seed, short targets left out.

    The order is of all pairs, so that models with other tokenizers get mostly the same samples.

    Args:
        pairs: The pairs.
        tokenizer: A fast tokenizer.
        seed: Seed of the order.
        longest: Tokens that the model takes; longer samples are left out.

    Raises:
        DataError: While iterating, if no target has 20 tokens, or all are in longer samples.
    """
    made = (sample(pair, tokenizer) for pair in _shuffled(pairs, seed))
    return _some(made, Fit(FEWEST_TARGET_TOKENS, longest, "pairs with a target"))


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
    return _some(made, Fit(FEWEST_OPEN_TOKENS, longest, "texts", OPEN_SKIPPED))


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
    what = f"test documents of {FEWEST_OPEN_TOKENS} tokens, or pairs with a target"
    return _some(made, Fit(FEWEST_TARGET_TOKENS, None, what))


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


@dataclass(frozen=True)
class Fit:
    """Which samples are taken.

    Attributes:
        fewest: Tokens that are needed, those of the target and those skipped before it.
        longest: Tokens that the model takes; None for any number.
        what: What is looked for, in words.
        skipped: Tokens that are none of the target's but count.
    """

    fewest: int
    longest: int | None
    what: str
    skipped: int = 0


def _some(samples: Iterable[Sample], fit: Fit) -> Iterator[Sample]:
    """Yield those that fit; at the end raise if there was none."""
    taken = short = long = 0
    for found in samples:
        if int(found.target.sum()) + fit.skipped < fit.fewest:
            short += 1
        elif fit.longest is not None and len(found.token_ids) > fit.longest:
            long += 1
        else:
            taken += 1
            yield found
    if not taken:
        beyond = f", {long} are longer than the {fit.longest} tokens that the model takes"
        raise DataError(
            f"there are no {fit.what} of {fit.fewest} tokens or more: {short} are shorter"
            f"{beyond if long else ''}. Give more or other text"
        )

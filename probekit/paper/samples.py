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
from probekit.data.prompted.pair_tokens import Sample, encoded, sample, with_bos
from probekit.data.prompted.pairs import Pair
from probekit.errors import DataError

FEWEST_TARGET_TOKENS = 20
# "About 200 tokens", as the paper's open-ended texts; from half of it on a text is taken whole.
OPEN_TOKENS = 200
FEWEST_OPEN_TOKENS = 100
# The token two after the first of a text is the first that both offsets can be asked for.
OPEN_SKIPPED = 2

T = TypeVar("T")


def predicting_positions(tokens: Bool[Tensor, " pos"], offset: int) -> Bool[Tensor, " pos"]:
    """Return the positions from which tokens are predicted at an offset, shape (pos,).

    >>> predicting_positions(torch.tensor([False, False, True, True]), 2).tolist()
    [True, True, False, False]
    """
    positions = torch.zeros_like(tokens)
    positions[:-offset] = tokens[offset:]
    return positions


def open_sample(document: Document, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Return the first 200 tokens of a document; its target is all but the first two."""
    ids, _ = encoded(document.text, tokenizer)
    inside = [position >= OPEN_SKIPPED for position in range(len(ids[:OPEN_TOKENS]))]
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
    return _within(LengthLimits(FEWEST_TARGET_TOKENS, longest, "pairs with a target"), made)


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
    return _within(LengthLimits(FEWEST_OPEN_TOKENS, longest, "texts", OPEN_SKIPPED), made)


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
    return _within(LengthLimits(FEWEST_TARGET_TOKENS, None, what), made)


def _tokenized_sample(document: TokenizedDocument, bos: int | None) -> Sample:
    ids, prompt = document.ids, document.prompt
    if not prompt:
        # Too short a text is left out as one without a target.
        long = len(ids) >= FEWEST_OPEN_TOKENS
        ids, prompt = ids[:OPEN_TOKENS], OPEN_SKIPPED if long else len(ids)
    before = [] if bos is None else [bos]
    inside = [False] * (len(before) + prompt) + [True] * (len(ids) - prompt)
    return Sample(document.name, torch.tensor([*before, *ids]), torch.tensor(inside))


def _shuffled(items: Sequence[T], seed: int) -> Iterator[T]:
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    return (items[index] for index in order.tolist())


@dataclass(frozen=True)
class LengthLimits:
    """How many tokens a sample must have, and may have.

    Attributes:
        fewest: Least number of tokens, those of the target and those skipped before it.
        longest: Tokens that the model takes; None for any number.
        what: Kind of samples, as the error names it.
        skipped: Tokens before the target that count towards `fewest`.
    """

    fewest: int
    longest: int | None
    what: str
    skipped: int = 0


def _within(limits: LengthLimits, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield the samples within the limits; at the end raise if there was none."""
    taken = short = long = 0
    for each in samples:
        if int(each.target.sum()) + limits.skipped < limits.fewest:
            short += 1
        elif limits.longest is not None and len(each.token_ids) > limits.longest:
            long += 1
        else:
            taken += 1
            yield each
    if not taken:
        beyond = f", {long} are longer than the {limits.longest} tokens that the model takes"
        raise DataError(
            f"there are no {limits.what} of {limits.fewest} tokens or more: {short} are shorter"
            f"{beyond if long else ''}. Give more or other text"
        )

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
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import Document
from probekit.data.pairs import TEMPLATE, Pair
from probekit.errors import DataError, ModelError

FEWEST_TARGET_TOKENS = 20
LAST = 20
# "About 200 tokens", as the paper's open-ended texts; from half of it on a text is taken whole.
OPEN_TOKENS = 200
FEWEST_OPEN_TOKENS = 100
# The token two after the first of a text is the first that both offsets can be asked for.
OPEN_SKIPPED = 2

T = TypeVar("T")


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

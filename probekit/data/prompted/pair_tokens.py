"""Pairs as tokens: the source in a template is a prompt, the target is what is predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit.data import blocks
from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import Document, Split, split
from probekit.data.lost_text import kept
from probekit.data.prompted.pairs import TEMPLATE, Pair
from probekit.data.tokenization import within
from probekit.errors import DataError, ModelError

LAST = 20


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


def sample(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Return a pair in the paper's template, with the mask of the target's tokens.

    Raises:
        ModelError: If the tokenizer does not say which characters a token stands for.
        DataError: If its tokens do not reach from the first to the last character of the target.
    """
    located = _located(pair, tokenizer, TEMPLATE)
    return with_bos(pair.name, located.ids, located.inside, tokenizer)


@dataclass(frozen=True)
class _Located:
    """A pair in its template: text, tokens with their spans of characters, where its target is."""

    text: str
    start: int
    ids: list[int]
    spans: list[tuple[int, int]]

    @property
    def inside(self) -> list[bool]:
        # A token that holds the space before the target, too, is the target's first token.
        return [last > self.start for _, last in self.spans]

    @property
    def n_prompt(self) -> int:
        return self.inside.index(True)


def _located(pair: Pair, tokenizer: PreTrainedTokenizerBase, template: str) -> _Located:
    prompt = template.replace("{source}", pair.source)
    text = prompt + pair.target
    located = _Located(text, len(prompt), *encoded(text, tokenizer))
    covered = located.spans[located.n_prompt :] if any(located.inside) else []
    if not covered or covered[0][0] > located.start or covered[-1][1] < len(text):
        raise DataError(
            f"{pair.name}: this tokenizer's offsets do not cover the target, so that its tokens "
            "cannot be told from the prompt's"
        )
    return located


def encoded(
    string: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[tuple[int, int]]]:
    """Return token ids without special tokens, and each token's span of characters.

    Raises:
        ModelError: If the tokenizer does not say which characters a token stands for.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say which characters a token stands for; pairs "
            "need a fast tokenizer (tokenizer.json)"
        )
    encoding = tokenizer(
        string, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    return encoding["input_ids"], encoding["offset_mapping"]


def with_bos(
    name: str, ids: Sequence[int], inside: Sequence[bool], tokenizer: PreTrainedTokenizerBase
) -> Sample:
    """Return a sample of token ids and target mask, with BOS where the tokenizer has one."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    target = torch.tensor([False] * len(bos) + list(inside))
    return Sample(name, torch.tensor([*bos, *ids]), target)


def tokenize(
    domain: str,
    pairs: Sequence[Pair],
    tokenizer: PreTrainedTokenizerBase,
    block: int,
    max_tokens: int | None,
    template: str,
) -> tuple[list[TokenizedDocument], int]:
    """Return the tokens of one domain's pairs, each whole, with its prompt and its split.

    Bytes are those of the target, which is what is scored.

    Args:
        domain: Name of the text.
        pairs: Its pairs.
        tokenizer: A fast tokenizer.
        block: Tokens in a block; a longer pair is left out.
        max_tokens: Pairs are taken in order of their hash while they fit into so many tokens.
        template: What stands before the target, with {source} for the source.

    Returns:
        The pairs that were taken, and how many were left out for their length.

    Raises:
        ModelError: If the tokenizer does not say which characters a token stands for.
        DataError: If no pair fits into a block, or too few do to split them.
    """
    located = [_located(pair, tokenizer, template) for pair in pairs]
    needed = [blocks.block_of(each.ids, tokenizer) for each in located]
    short = [i for i, length in enumerate(needed) if length <= block]
    if not short:
        raise DataError(
            f"{domain}: none of {len(pairs)} pairs fits into a block of {block} tokens, the "
            f"shortest takes {min(needed)}: give a --block that is longer, if the model takes "
            "one, or shorter pairs"
        )
    documents = [pairs[i].document(domain) for i in short]
    inside = within(documents, [len(located[i].ids) for i in short], max_tokens)
    kept = [short[i] for i in inside]
    parts = split([documents[i] for i in inside], [len(located[i].ids) for i in kept])
    taken = [
        _document(documents[at], located[i], part, tokenizer)
        for at, i, part in zip(inside, kept, parts, strict=True)
    ]
    return taken, len(pairs) - len(short)


def _document(
    document: Document, located: _Located, part: Split, tokenizer: PreTrainedTokenizerBase
) -> TokenizedDocument:
    n_prompt, reach = located.n_prompt, (located.start, len(located.text))
    ids, spans = located.ids[n_prompt:], located.spans[n_prompt:]
    stands_for = kept(tokenizer, located.text, ids, spans, reach)
    return TokenizedDocument(
        document.domain,
        document.name,
        part,
        located.ids,
        stands_for.n_bytes,
        document.sha256,
        prompt=n_prompt,
        lost=stands_for.lost,
        n_unknown=stands_for.n_unknown,
    )

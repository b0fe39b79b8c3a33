"""Pack documents into token blocks, and mask which positions have which target.

Documents, each ended by a separator, lie end to end in blocks of equal length. Where the
tokenizer has a BOS it comes first in each block, and before each document too where that is
another token than the end. Masks come from an array of document numbers, never from token ids.

A document may begin with a prompt: context, of which no token is a target. Such a document has
a block to itself, so that nothing but its own prompt stands before its targets; of a chat more
such context lies between them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit.data.documents import SPLITS, Split
from probekit.data.separator import Separator
from probekit.errors import DataError

OUTSIDE = -1


@dataclass(frozen=True)
class Blocks:
    """Token blocks and the document that each position belongs to.

    Attributes:
        token_ids: Token ids, shape (block, pos).
        documents: Document numbers, shape (block, pos); -1 at BOS, in a prompt or aside but for
            its last token, from which the next target is predicted, and behind the last document.
    """

    token_ids: Int[Tensor, "block pos"]
    documents: Int[Tensor, "block pos"]

    def valid(self, offset: int) -> Bool[Tensor, "block pos"]:
        """Return the positions whose token at `offset` lies in their own document.

        An end token is a legal target; its own position, the last of its document, has
        none. A piece of n tokens has max(0, n - offset) such positions.

        >>> ends = Separator("eos", bos=None, end=9, scored=True)
        >>> blocks = pack([[5, 6], [7]], [0, 1], block=6, separator=ends)
        >>> blocks.token_ids.tolist(), blocks.valid(1).tolist()
        ([[5, 6, 9, 7, 9, 9]], [[True, True, False, True, False, False]])
        """
        valid = torch.zeros_like(self.documents, dtype=torch.bool)
        here, there = self.documents[:, :-offset], self.documents[:, offset:]
        # Nothing of a target's context but what is target itself lies between the two.
        asides = (self.documents == OUTSIDE).cumsum(1)
        together = (here == there) & (asides[:, :-offset] == asides[:, offset:])
        valid[:, :-offset] = (here != OUTSIDE) & together
        return valid

    def targets(self, offset: int) -> Int[Tensor, "block pos"]:
        """Return the token at `offset` from each position; meaningless where not valid."""
        targets = torch.zeros_like(self.token_ids)
        targets[:, :-offset] = self.token_ids[:, offset:]
        return targets


@dataclass(frozen=True)
class TokenizedDocument:
    """A document's tokens and where they go.

    Attributes:
        domain: Name of the text that it comes from.
        name: File, line or row; with a piece number if it was cut.
        split: Part of the analysis.
        ids: Token ids without BOS and end.
        n_bytes: UTF-8 bytes of the text that the ids stand for, without what is lost.
        sha256: Digest of the content.
        whole: False if it was cut: what ends it is not its author.
        prompt: Tokens before the first that is a target; 0 if all of it is text to predict.
        asides: Behind a prompt, where tokens begin and end that are no targets either.
        lost: Characters that no token stands for, in order; of a pair, of its target.
        n_unknown: Tokens that are the tokenizer's unknown one; of a pair, of its target.
        start: Tokens of the document before those that were taken.
        n_left_out: Tokens of the document before and after those that were taken.
    """

    domain: str
    name: str
    split: Split
    ids: list[int]
    n_bytes: int
    sha256: str
    whole: bool = True
    prompt: int = 0
    lost: str = ""
    n_unknown: int = 0
    start: int = 0
    n_left_out: int = 0
    asides: tuple[tuple[int, int], ...] = ()

    @property
    def targets(self) -> list[range]:
        """The tokens that are targets, the end not counted: one range, of chats one a turn.

        >>> chat = TokenizedDocument("d", "", "test", [5] * 9, 1, "", prompt=2, asides=((4, 7),))
        >>> chat.targets, chat.n_targets
        ([range(2, 4), range(7, 9)], 4)
        """
        edges = [self.prompt, *chain.from_iterable(self.asides), len(self.ids)]
        ranges = (range(*each) for each in zip(edges[::2], edges[1::2], strict=True))
        return [each for each in ranges if each]

    @property
    def n_targets(self) -> int:
        """Tokens that are targets, the end not counted."""
        return sum(map(len, self.targets))


def pack(
    ids: Sequence[Sequence[int]],
    numbers: Sequence[int],
    block: int,
    separator: Separator,
    whole: Sequence[bool] | None = None,
) -> Blocks:
    """Lay documents end to end in blocks.

    The end token after a document that was cut parts it from the next one, but is nobody's
    target: no model could foresee it; nor is one that the separator says is not scored. The
    last block is filled up with the end token, which belongs to no document either (attention is
    causal: it changes nothing before it).

    Args:
        ids: Token ids of each document.
        numbers: Number of each document.
        block: Tokens in a block, BOS included.
        separator: What stands between documents, and first in each block.
        whole: Whether each document is whole; all are, by default.

    Returns:
        Blocks of shape (block, pos) with pos = `block`.
    """
    flat: list[int] = []
    owner: list[int] = []
    bos, end = separator.bos, separator.end
    body = block - (bos is not None)
    begins = separator.between[1:]
    for index, (document, number) in enumerate(zip(ids, numbers, strict=True)):
        if len(flat) % body:  # a block's own BOS is not doubled
            flat += begins
            owner += [OUTSIDE] * len(begins)
        flat += document
        owner += [number] * len(document)
        if end is not None and (separator.kind != "bos" or len(flat) % body):
            flat.append(end)
            scored = separator.scored and (whole is None or whole[index])
            owner.append(number if scored else OUTSIDE)
    filling = -len(flat) % body
    filler = 0 if end is None else end
    token_ids = torch.tensor(flat + [filler] * filling).view(-1, body)
    documents = torch.tensor(owner + [OUTSIDE] * filling).view(-1, body)
    if bos is not None:
        rows = len(token_ids)
        token_ids = torch.cat([torch.full((rows, 1), bos), token_ids], dim=1)
        documents = torch.cat([torch.full((rows, 1), OUTSIDE), documents], dim=1)
    return Blocks(token_ids, documents)


def pack_prompted(
    ids: Sequence[Sequence[int]],
    numbers: Sequence[int],
    targets: Sequence[Sequence[range]],
    block: int,
    bos: int | None,
    end: int | None,
) -> Blocks:
    """Lay each document in a block of its own, what is no target as context.

    Args:
        ids: Token ids of each document.
        numbers: Number of each document.
        targets: Which tokens of each are targets, none of them the first; its end may be one.
        block: Tokens in a block; BOS, the longest document and its end fit into it.
        bos: First token of each block, or None.
        end: Token after each document, or None. Blocks are filled up with it.

    Returns:
        Blocks of shape (document, pos) with pos = `block`.

    >>> blocks = pack_prompted([[5, 6, 7, 8]], [3], [[range(2, 5)]], block=8, bos=0, end=9)
    >>> blocks.token_ids.tolist(), blocks.documents.tolist()
    ([[0, 5, 6, 7, 8, 9, 9, 9]], [[-1, -1, 3, 3, 3, 3, -1, -1]])
    >>> blocks.valid(2).nonzero()[:, 1].tolist()  # 7 and 8 from 6, 8 and the end from 7
    [2, 3]
    """
    token_ids = torch.full((len(ids), block), 0 if end is None else end)
    documents = torch.full_like(token_ids, OUTSIDE)
    start = bos is not None
    if bos is not None:
        token_ids[:, 0] = bos
    for row, (document, number, spans) in enumerate(zip(ids, numbers, targets, strict=True)):
        token_ids[row, start : start + len(document)] = torch.tensor(document)
        for span in spans:
            documents[row, start + span.start - 1 : start + span.stop] = number
    return Blocks(token_ids, documents)


def blocks_by_split(
    documents: Sequence[TokenizedDocument],
    separator: Separator,
    block: int,
    horizon: int,
) -> dict[Split, Blocks]:
    """Pack the documents of each split into blocks; numbers are indices of `documents`.

    Raises:
        DataError: If a domain has no position with a target at the horizon in a split.
    """
    by_split = {}
    for part in SPLITS:
        numbers = [i for i, document in enumerate(documents) if document.split == part]
        by_split[part] = _packed(documents, numbers, separator, block)
        _require_targets(by_split[part], documents, part, horizon)
    return by_split


def block_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the most tokens that a document takes in a block of its own, with BOS and end."""
    ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    return len(ids) + sum(end is not None for end in ends)


def shortened(
    block: int, documents: Sequence[TokenizedDocument], tokenizer: PreTrainedTokenizerBase
) -> int:
    """Return the length of blocks: less than `block` where no split fills one.

    A document with a prompt has a block of its own; the others of a split stand end to end.
    """
    end_to_end, longest = Counter[Split](), 0
    for document in documents:
        size = block_of(document.ids, tokenizer)
        longest = max(longest, size if document.prompt else 0)
        end_to_end[document.split] += 0 if document.prompt else size
    return min(block, max(longest, *end_to_end.values()))


def _packed(
    documents: Sequence[TokenizedDocument],
    numbers: Sequence[int],
    separator: Separator,
    block: int,
) -> Blocks:
    """Return the blocks of the documents of these numbers, those with a prompt last."""
    plain = [i for i in numbers if not documents[i].prompt]
    prompted = [i for i in numbers if documents[i].prompt]
    parts = []
    if plain:
        whole = [documents[i].whole for i in plain]
        parts.append(pack([documents[i].ids for i in plain], plain, block, separator, whole))
    if prompted:
        # Nothing stands behind it in its block: an end that is not scored is not needed.
        end = separator.end if separator.scored else None
        ids, targets = (
            [documents[i].ids for i in prompted],
            [documents[i].targets for i in prompted],
        )
        for i, spans in zip(prompted, targets, strict=True):
            if end is not None and documents[i].whole:
                spans[-1] = range(spans[-1].start, spans[-1].stop + 1)
        parts.append(pack_prompted(ids, prompted, targets, block, separator.bos, end))
    return Blocks(
        torch.cat([part.token_ids for part in parts]),
        torch.cat([part.documents for part in parts]),
    )


def _require_targets(
    blocks: Blocks, documents: Sequence[TokenizedDocument], part: Split, horizon: int
) -> None:
    reached = {documents[n].domain for n in blocks.documents[blocks.valid(horizon)].tolist()}
    for domain in dict.fromkeys(document.domain for document in documents):
        if domain not in reached:
            short = [d for d in documents if (d.domain, d.split) == (domain, part)]
            longest = max(len(span) for document in short for span in document.targets)
            what = "target" if short[0].prompt else "document"
            raise DataError(
                f"{domain}: the {part} split has no position with a target {horizon} tokens "
                f"ahead: its longest {what} has {longest} tokens and more than {horizon} "
                "are needed. Give more or longer text, or fewer --offsets"
            )

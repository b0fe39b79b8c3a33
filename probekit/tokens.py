"""Token blocks, and every mask there is.

Documents, each ended by the tokenizer's end token, lie end to end in blocks of equal
length. Where the tokenizer has a BOS it comes first in each block, and before each document
too unless BOS and end are one token, which then does both. Masks come from an array of
document numbers, never from token ids.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit.errors import DataError
from probekit.text import SPLITS, Document, Split, split

# A domain with fewer documents is cut into pieces, so that it can be split and resampled.
FEWEST_DOCUMENTS = 20
PIECE_TOKENS = 1024
# What a document that is shortened keeps at least: where documents are few, and many.
SHORTEST_CUTS = 128, 512
MANY_DOCUMENTS = 200

OUTSIDE = -1


@dataclass(frozen=True)
class Blocks:
    """Token blocks and the document that each position belongs to.

    Attributes:
        token_ids: Token ids, shape (block, pos).
        documents: Document numbers, shape (block, pos); -1 at BOS and behind the last
            document.
    """

    token_ids: Int[Tensor, "block pos"]
    documents: Int[Tensor, "block pos"]

    def valid(self, offset: int) -> Bool[Tensor, "block pos"]:
        """Return the positions whose token at `offset` lies in their own document.

        An end token is a legal target; its own position, the last of its document, has
        none. A piece of n tokens has max(0, n - offset) such positions.

        >>> blocks = pack([[5, 6], [7]], [0, 1], block=6, bos=None, end=9)
        >>> blocks.token_ids.tolist(), blocks.valid(1).tolist()
        ([[5, 6, 9, 7, 9, 9]], [[True, True, False, True, False, False]])
        """
        valid = torch.zeros_like(self.documents, dtype=torch.bool)
        own = self.documents[:, :-offset]
        valid[:, :-offset] = (own != OUTSIDE) & (own == self.documents[:, offset:])
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
        n_bytes: UTF-8 bytes of the text that the ids stand for.
        sha256: Digest of the content.
        whole: False if it was cut: what ends it is not its author.
    """

    domain: str
    name: str
    split: Split
    ids: list[int]
    n_bytes: int
    sha256: str
    whole: bool = True


def pack(
    ids: Sequence[Sequence[int]],
    numbers: Sequence[int],
    block: int,
    bos: int | None,
    end: int | None,
    whole: Sequence[bool] | None = None,
) -> Blocks:
    """Lay documents end to end in blocks.

    The end token after a document that was cut parts it from the next one, but is nobody's
    target: no model could foresee it. The last block is filled up with the end token, which
    belongs to no document either (attention is causal: it changes nothing before it).

    Args:
        ids: Token ids of each document.
        numbers: Number of each document.
        block: Tokens in a block, BOS included.
        bos: First token of each block and document, or None.
        end: Token after each document, or None.
        whole: Whether each document is whole; all are, by default.

    Returns:
        Blocks of shape (block, pos) with pos = `block`.
    """
    flat: list[int] = []
    owner: list[int] = []
    body = block - (bos is not None)
    for index, (document, number) in enumerate(zip(ids, numbers, strict=True)):
        if bos not in (None, end) and len(flat) % body:  # a block's own BOS is not doubled
            flat.append(bos)
            owner.append(OUTSIDE)
        flat += document
        owner += [number] * len(document)
        if end is not None:
            flat.append(end)
            owner.append(number if whole is None or whole[index] else OUTSIDE)
    filling = -len(flat) % body
    filler = 0 if end is None else end
    token_ids = torch.tensor(flat + [filler] * filling).view(-1, body)
    documents = torch.tensor(owner + [OUTSIDE] * filling).view(-1, body)
    if bos is not None:
        rows = len(token_ids)
        token_ids = torch.cat([torch.full((rows, 1), bos), token_ids], dim=1)
        documents = torch.cat([torch.full((rows, 1), OUTSIDE), documents], dim=1)
    return Blocks(token_ids, documents)


def tokenize(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, max_tokens: int | None
) -> list[TokenizedDocument]:
    """Return the tokens of one domain's documents, each with its split.

    Where the domain has more than `max_tokens` tokens, long documents are cut to one
    common length, so that many documents remain: they, not tokens, are what intervals are
    made of. Where 200 documents remain anyway, none is cut below 512 tokens, and never below
    128; beyond that, documents are left out, in order of their hash.

    Raises:
        DataError: If there are too few documents to split.
    """
    encoded = encode(tokenizer, [document.text for document in documents])
    if not any(encoded):
        raise DataError(
            f"the tokenizer makes no token of the text of {documents[0].domain!r}: are text and "
            "tokenizer of one language?"
        )
    cap = common_length([len(ids) for ids in encoded], max_tokens)
    if max_tokens is not None:
        shortest, enough = SHORTEST_CUTS
        cap = max(cap, min(max(max_tokens // MANY_DOCUMENTS, shortest), enough))
    kept = [ids[:cap] for ids in encoded]
    inside = _within(documents, [len(ids) for ids in kept], max_tokens)
    documents = [documents[i] for i in inside]
    encoded, kept = [encoded[i] for i in inside], [kept[i] for i in inside]
    parts = split(documents, [len(ids) for ids in kept])
    return [
        TokenizedDocument(
            document.domain,
            document.name,
            part,
            short,
            # A cut document keeps its share of bytes.
            round(len(document.text.encode()) * len(short) / max(len(ids), 1)),
            document.sha256,
            document.whole and len(short) == len(ids),
        )
        for document, part, short, ids in zip(documents, parts, kept, encoded, strict=True)
    ]


def _within(documents: Sequence[Document], sizes: Sequence[int], total: int | None) -> list[int]:
    """Return which documents, taken in order of their hash, fit into `total` tokens."""
    order = sorted(range(len(documents)), key=lambda i: documents[i].sha256)
    taken: list[int] = []
    used = 0
    for i in order:
        # Never fewer than a split needs, whatever the budget.
        if total is None or used + sizes[i] <= total or len(taken) < len(SPLITS):
            taken.append(i)
            used += sizes[i]
    return sorted(taken)


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return token ids without special tokens; the length of a text is not limited."""
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def common_length(lengths: Sequence[int], total: int | None) -> int:
    """Return the length to which documents are cut so that they sum to at most `total`.

    >>> common_length([2, 10, 20], total=16)
    7
    >>> common_length([2, 10, 20], total=None)
    20
    """
    longest = max(lengths)
    if total is None or sum(lengths) <= total:
        return longest
    budget = total
    for rank, length in enumerate(sorted(lengths)):
        share = budget // (len(lengths) - rank)
        if length > share:
            return max(1, share)
        budget -= length
    return longest


def pieces(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Document], bool]:
    """Cut a domain of few documents into pieces of about 1,024 tokens at line ends.

    Returns:
        The documents, or their pieces, and whether they were cut.
    """
    if len(documents) >= FEWEST_DOCUMENTS:
        return list(documents), False
    found = []
    for document in documents:
        parts = [text for text in _cut(document.text, tokenizer) if text.strip()]
        for number, text in enumerate(parts, start=1):
            name = f"{document.name} piece {number}"
            last = number == len(parts)
            found.append(replace(document, name=name, text=text, whole=last))
    return found, True


def _cut(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    sizes = [len(ids) for ids in encode(tokenizer, lines)]
    if max(sizes) > PIECE_TOKENS:  # a line as long as a piece: cut between words
        lines = re.findall(r"\S+\s*|\s+", text)
        sizes = [len(ids) for ids in encode(tokenizer, lines)]
    found, size = [""], 0
    for line, line_size in zip(lines, sizes, strict=True):
        if size >= PIECE_TOKENS:
            found.append("")
            size = 0
        found[-1] += line
        size += line_size
    return found


def blocks_by_split(
    documents: Sequence[TokenizedDocument],
    tokenizer: PreTrainedTokenizerBase,
    block: int,
    horizon: int,
) -> dict[Split, Blocks]:
    """Pack the documents of each split into blocks; numbers are indices of `documents`.

    Raises:
        DataError: If a domain has no position with a target at the horizon in a split.
    """
    found = {}
    for part in SPLITS:
        numbers = [i for i, document in enumerate(documents) if document.split == part]
        found[part] = pack(
            [documents[i].ids for i in numbers],
            numbers,
            block,
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            [documents[i].whole for i in numbers],
        )
        _require_targets(found[part], documents, part, horizon)
    return found


def _require_targets(
    blocks: Blocks, documents: Sequence[TokenizedDocument], part: Split, horizon: int
) -> None:
    reached = {documents[n].domain for n in blocks.documents[blocks.valid(horizon)].tolist()}
    for domain in dict.fromkeys(document.domain for document in documents):
        if domain not in reached:
            lengths = [len(d.ids) for d in documents if (d.domain, d.split) == (domain, part)]
            raise DataError(
                f"{domain}: the {part} split has no position with a target {horizon} tokens "
                f"ahead: its longest document has {max(lengths)} tokens and more than {horizon} "
                "are needed. Give more or longer text, or fewer --offsets"
            )

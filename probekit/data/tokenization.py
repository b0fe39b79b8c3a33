"""Tokenize documents; long ones are shortened, and few ones cut into pieces."""

import re
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import SPLITS, Document, split
from probekit.errors import DataError

# A domain with fewer documents is cut into pieces, so that it can be split and resampled.
FEWEST_DOCUMENTS = 20
PIECE_TOKENS = 1024
# What a document that is shortened keeps at least: where documents are few, and many.
SHORTEST_CUTS = 128, 512
MANY_DOCUMENTS = 200


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
    inside = within(documents, [len(ids) for ids in kept], max_tokens)
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


def within(documents: Sequence[Document], sizes: Sequence[int], total: int | None) -> list[int]:
    """Return which documents, taken in order of their hash, fit into `total` tokens.

    They are three at least, whatever the total: fewer cannot be split.
    """
    order = sorted(range(len(documents)), key=lambda i: documents[i].sha256)
    taken: list[int] = []
    used = 0
    for i in order:
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
    cut = []
    for document in documents:
        parts = [text for text in _cut(document.text, tokenizer) if text.strip()]
        for number, text in enumerate(parts, start=1):
            name = f"{document.name} piece {number}"
            last = number == len(parts)
            cut.append(replace(document, name=name, text=text, whole=last))
    return cut, True


def _cut(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    sizes = [len(ids) for ids in encode(tokenizer, lines)]
    if max(sizes) > PIECE_TOKENS:  # a line as long as a piece: cut between words
        lines = re.findall(r"\S+\s*|\s+", text)
        sizes = [len(ids) for ids in encode(tokenizer, lines)]
    parts, size = [""], 0
    for line, line_size in zip(lines, sizes, strict=True):
        if size >= PIECE_TOKENS:
            parts.append("")
            size = 0
        parts[-1] += line
        size += line_size
    return parts

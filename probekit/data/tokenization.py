"""Tokenize documents; of long ones a window is taken, and few ones are cut into pieces."""

import re
from collections.abc import Sequence
from dataclasses import replace

from transformers import BatchEncoding, PreTrainedTokenizerBase

from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import SPLITS, Document, split
from probekit.data.lost_text import Losses
from probekit.errors import DataError

# A domain with fewer different documents is cut into pieces, so that it can be split and resampled.
FEWEST_DOCUMENTS = 20
# Pieces are of so many tokens at least and at most; between, there are about so many of them.
PIECE_TOKENS = 200, 1024
PIECES = 100
# Characters of a word, by far; scripts without spaces are cut behind so many.
LONGEST_WORD = 64
# Tokens that a window of a long document holds at least; and where so many documents remain.
SHORTEST_WINDOW = 128
LONGER_WINDOWS = ((100, 192), (200, 512))


def tokenize(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, max_tokens: int | None
) -> list[TokenizedDocument]:
    """Return the tokens of one domain's documents, each with its split.

    Where the domain has more than `max_tokens` tokens, of each long document a window of one
    common length is taken, so that many documents remain: they, not tokens, are what intervals
    are made of. No window is shorter than 128 tokens; than 192 where 100 documents remain
    anyway; than 512 where 200 do. Beyond that, documents are left out, in order of their hash;
    copies of others before them.

    Raises:
        DataError: If there are too few documents to split.
    """
    encoded = _encoded(tokenizer, [document.text for document in documents])
    sizes = [len(ids) for ids in encoded["input_ids"]]
    if not any(sizes):
        raise DataError(
            f"the tokenizer makes no token of the text of {documents[0].domain!r}: are text and "
            "tokenizer of one language?"
        )
    different = one_of_each(documents, sizes, max_tokens)
    length = _window_length([sizes[i] for i in different], max_tokens)
    windows = [window(each, n, length) for each, n in zip(documents, sizes, strict=True)]
    inside = within(documents, [len(tokens) for tokens in windows], max_tokens)
    parts = split([documents[i] for i in inside], [len(windows[i]) for i in inside])
    losses, taken = Losses(tokenizer), []
    for i, part in zip(inside, parts, strict=True):
        document, tokens = documents[i], windows[i]
        ids, spans = encoded["input_ids"][i], encoded[i].offsets if encoded.is_fast else None
        stands_for = losses.kept(document.text, ids, spans, tokens)
        taken.append(
            TokenizedDocument(
                document.domain,
                document.name,
                part,
                ids[tokens.start : tokens.stop],
                stands_for.n_bytes,
                document.sha256,
                document.whole and tokens.stop == sizes[i],
                lost=stands_for.lost,
                n_unknown=stands_for.n_unknown,
                start=tokens.start,
                n_left_out=sizes[i] - len(tokens),
            )
        )
    return taken


def _window_length(sizes: Sequence[int], max_tokens: int | None) -> int:
    length = common_length(sizes, max_tokens)
    if max_tokens is None:
        return length
    least = (min(max_tokens // count, size) for count, size in LONGER_WINDOWS)
    return max(length, SHORTEST_WINDOW, *least)


def window(document: Document, n_tokens: int, length: int) -> range:
    """Return which tokens of a document are taken: `length` in a row, or all if it has fewer.

    Where they begin is drawn by the hash of the content: the heads of documents are licences,
    titles and tables of contents, and more alike than what follows.

    >>> window(Document("d", "name", "text"), n_tokens=1000, length=10)
    range(207, 217)
    """
    free = max(n_tokens - length, 0)
    start = int(document.sha256, 16) % (free + 1)
    return range(start, start + n_tokens - free)


def within(documents: Sequence[Document], sizes: Sequence[int], total: int | None) -> list[int]:
    """Return which documents, taken in order of their hash, fit into `total` tokens.

    They are three at least, whatever the total: fewer cannot be split. Where not all fit, they are
    different ones.
    """
    different = one_of_each(documents, sizes, total)
    order = sorted(different, key=lambda i: documents[i].sha256)
    taken: list[int] = []
    used = 0
    for i in order:
        if total is None or used + sizes[i] <= total or len(taken) < len(SPLITS):
            taken.append(i)
            used += sizes[i]
    return sorted(taken)


def one_of_each(
    documents: Sequence[Document], sizes: Sequence[int], total: int | None
) -> list[int]:
    """Return which documents there are to choose from: one of each content where not all fit.

    >>> documents = [Document("d", "name", text) for text in "aba"]
    >>> one_of_each(documents, [9, 9, 9], total=20), one_of_each(documents, [9, 9, 9], total=27)
    ([0, 1], [0, 1, 2])
    """
    if total is None or sum(sizes) <= total:
        return list(range(len(documents)))
    first: dict[str, int] = {}
    for i, document in enumerate(documents):
        first.setdefault(document.sha256, i)
    return list(first.values())


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return token ids without special tokens; the length of a text is not limited."""
    ids: list[list[int]] = _encoded(tokenizer, texts)["input_ids"]
    return ids


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> BatchEncoding:
    encoded: BatchEncoding = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return encoded


def common_length(lengths: Sequence[int], total: int | None) -> int:
    """Return the length of windows of documents that sum to at most `total`.

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
) -> tuple[list[Document], int | None]:
    """Cut a domain of few documents into about 100 pieces, of 200 to 1,024 tokens, at line ends.

    Returns:
        The documents, or their pieces, and after how many tokens these were cut; None if they
        were not.
    """
    if len({document.sha256 for document in documents}) >= FEWEST_DOCUMENTS:
        return list(documents), None
    n_tokens = sum(map(len, encode(tokenizer, [document.text for document in documents])))
    shortest, longest = PIECE_TOKENS
    length = min(max(n_tokens // PIECES, shortest), longest)
    cut = []
    for document in documents:
        parts = [text for text in _cut(document.text, tokenizer, length) if text.strip()]
        for number, text in enumerate(parts, start=1):
            name = f"{document.name} piece {number}"
            last = document.whole and number == len(parts)
            cut.append(replace(document, name=name, text=text, whole=last))
    return cut, length


def _cut(text: str, tokenizer: PreTrainedTokenizerBase, length: int) -> list[str]:
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    sizes = [len(ids) for ids in encode(tokenizer, lines)]
    if max(sizes) > length:  # a line as long as a piece: cut between words, or within long ones
        lines = re.findall(rf"\S{{1,{LONGEST_WORD}}}\s*|\s+", text)
        sizes = [len(ids) for ids in encode(tokenizer, lines)]
    parts, size = [""], 0
    for line, line_size in zip(lines, sizes, strict=True):
        if size >= length:
            parts.append("")
            size = 0
        parts[-1] += line
        size += line_size
    return parts

"""Pairs as documents: the source in its template is a prompt, the target is what is predicted."""

from collections.abc import Iterator, Sequence
from itertools import islice

from transformers import PreTrainedTokenizerBase

from probekit.data import blocks, pair_tokens, pairs
from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import Document, Source, split
from probekit.data.pairs import Pair
from probekit.data.tokenization import within
from probekit.errors import DataError


def read(
    source: Source, fields: tuple[str, str], limit: int | None, max_characters: int
) -> list[Pair]:
    """Return the pairs of one source, in its own order.

    Args:
        source: Where to read.
        fields: Names of source and target.
        limit: Take no more than this many pairs.
        max_characters: Take no more pairs once those taken have so many characters.

    Raises:
        DataError: If it cannot be read, a row lacks a field, or no pair has two sides.
    """
    found = list(_up_to(max_characters, islice(pairs.read(source.location, *fields), limit)))
    if not found:
        raise DataError(f"{source.location} holds no pair: a side of every one is empty")
    return found


def _up_to(max_characters: int, found: Iterator[Pair]) -> Iterator[Pair]:
    taken = 0
    for pair in found:
        yield pair
        taken += len(pair.source) + len(pair.target)
        if taken >= max_characters:
            return


def document(domain: str, pair: Pair) -> Document:
    r"""Return source and target as one document, whose content decides the split.

    >>> document("d", Pair("line 1", "Ja.", "Yes.")).text
    'Ja.\nYes.'
    """
    return Document(domain, pair.name, f"{pair.source}\n{pair.target}")


def tokenize(
    domain: str,
    found: Sequence[Pair],
    tokenizer: PreTrainedTokenizerBase,
    block: int,
    max_tokens: int | None,
) -> tuple[list[TokenizedDocument], int]:
    """Return the tokens of one domain's pairs, each whole, with its prompt and its split.

    Bytes are those of the target, which is what is scored.

    Args:
        domain: Name of the text.
        found: Its pairs.
        tokenizer: A fast tokenizer.
        block: Tokens in a block; a longer pair is left out.
        max_tokens: Pairs are taken in order of their hash while they fit into so many tokens.

    Returns:
        The pairs that were taken, and how many were left out for their length.

    Raises:
        ModelError: If the tokenizer does not say which characters a token stands for.
        DataError: If no pair fits into a block, or too few do to split them.
    """
    encoded = [_encoded(pair, tokenizer) for pair in found]
    needed = [blocks.block_of(ids, tokenizer) for ids, _ in encoded]
    short = [i for i, length in enumerate(needed) if length <= block]
    if not short:
        raise DataError(
            f"{domain}: none of {len(found)} pairs fits into a block of {block} tokens, the "
            f"shortest takes {min(needed)}: give a --block that is longer, if the model takes "
            "one, or shorter pairs"
        )
    documents = [document(domain, found[i]) for i in short]
    inside = within(documents, [len(encoded[i][0]) for i in short], max_tokens)
    documents, kept = [documents[i] for i in inside], [short[i] for i in inside]
    parts = split(documents, [len(encoded[i][0]) for i in kept])
    taken = [
        TokenizedDocument(
            domain, whole.name, part, ids, len(found[i].target.encode()), whole.sha256,
            prompt=prompt,
        )
        for i, whole, part in zip(kept, documents, parts, strict=True)
        for ids, prompt in [encoded[i]]
    ]  # fmt: skip
    return taken, len(found) - len(short)


def _encoded(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int]:
    """Return token ids without BOS, and how many of them stand before the target."""
    made = pair_tokens.sample(pair, tokenizer)
    n_bos = tokenizer.bos_token_id is not None
    ids: list[int] = made.token_ids[n_bos:].tolist()
    return ids, int(made.target.nonzero()[0]) - n_bos

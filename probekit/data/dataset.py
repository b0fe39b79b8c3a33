"""Read and tokenize the texts that settings name, with rows and warnings for the results."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from probekit import provenance
from probekit.data import overlap, tokenization
from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import BUILT_IN, LONGEST, SPLITS, Document, Source, sources
from probekit.data.lost_text import Shares
from probekit.data.prompted import chat_tokens, pair_tokens
from probekit.data.prompted.pairs import template_of
from probekit.data.texts import Chats, Documents, Pairs, open_text
from probekit.settings import RunSettings

# Reading stops at so many characters, or so many for each token wanted: ten times what a
# token holds, so that long documents are shortened rather than few documents read.
CHARACTERS = 10_000_000
CHARACTERS_A_TOKEN = 40
# Of pairs, which are never shortened, no more are read than there are to choose from.
FEWEST_CHARACTERS = 100_000

# Documents of one text as read and as tokenized, and warnings.
_OfText = tuple[list[Document], list[TokenizedDocument], list[dict[str, str]]]


def read(
    tokenizer: PreTrainedTokenizerBase, settings: RunSettings, block: int
) -> tuple[list[TokenizedDocument], list[dict[str, Any]], list[dict[str, str]]]:
    """Read and tokenize the texts that settings name, each of documents, pairs or chats.

    Args:
        tokenizer: The model's.
        settings: Which texts, and how much of each.
        block: Tokens in a block; longer pairs are left out, longer chats cut.

    Returns:
        The documents of all texts; rows of `text` in results.json; code and message of what a
        reader must know of the texts.

    Raises:
        DataError: If a text cannot be used as asked.
        SettingsError: If two texts have one name.
    """
    documents: list[TokenizedDocument] = []
    rows, warnings = [], []
    for source in sources(settings.text or BUILT_IN):
        pair_fields = settings.source_field, settings.target_field
        opened = open_text(source, settings.text_field, pair_fields, _longest(settings))
        if isinstance(opened, Pairs):
            read_documents, tokenized, its_warnings = _pairs(opened, tokenizer, settings, block)
        elif isinstance(opened, Chats):
            read_documents, tokenized, its_warnings = _chats(opened, tokenizer, settings, block)
        else:
            read_documents, tokenized, its_warnings = _documents(opened, tokenizer, settings)
        documents += tokenized
        shares = Shares.of(tokenized)
        rows.append(_row(source, read_documents, tokenized, shares))
        warnings += its_warnings
        if not shares.check.passed:
            warnings.append({"code": "lost-text", "message": shares.check.message})
    for domain, share in overlap.copied_shares(documents).items():
        next(row for row in rows if row["domain"] == domain)["copied"] = share
        if share is not None and share > overlap.MUCH:
            warnings.append(_copied_warning(domain, share))
    return documents, rows, warnings


def taken(row: Mapping[str, Any]) -> str:
    """Say how much of its documents a row of `text` holds.

    >>> tokens = {"train": 80, "validation": 10, "test": 10}
    >>> documents = {"train": 8, "validation": 1, "test": 1}
    >>> row = {"documents": documents, "tokens": tokens, "shortened": 9, "whole_tokens": 2000}
    >>> taken(row)
    '9 of 10 documents are windows: 100 of 2,000 tokens'
    """
    if not row["shortened"]:
        return "no document is shortened"
    documents, tokens = (sum(row[what].values()) for what in ("documents", "tokens"))
    return (
        f"{row['shortened']:,} of {documents:,} documents are windows: "
        f"{tokens:,} of {row['whole_tokens']:,} tokens"
    )


def _documents(
    opened: Documents, tokenizer: PreTrainedTokenizerBase, settings: RunSettings
) -> _OfText:
    most = max(CHARACTERS, CHARACTERS_A_TOKEN * (settings.max_tokens or 0))
    documents = opened.take(settings.limit, most)
    pieces, length = tokenization.pieces(documents, tokenizer)
    tokenized = tokenization.tokenize(pieces, tokenizer, settings.max_tokens)
    warnings = _reading_warnings(opened, documents, settings)
    n_copies = len(pieces) - len({piece.sha256 for piece in pieces})
    if n_copies and len(tokenized) <= len(pieces) - n_copies:
        warnings.append(_copies_warning(opened.source, n_copies, len(pieces)))
    if length:
        warnings.append(_cut_warning(opened.source, len(documents), len(pieces), length))
    return documents, tokenized, warnings


def _longest(settings: RunSettings) -> int:
    """Return how many characters of a document are read."""
    return max(LONGEST, CHARACTERS_A_TOKEN * (settings.max_tokens or 0))


def _pairs(
    opened: Pairs, tokenizer: PreTrainedTokenizerBase, settings: RunSettings, block: int
) -> _OfText:
    source, budget = opened.source, settings.max_tokens
    pairs = opened.take(settings.limit, _most_characters(budget))
    fields = settings.source_field, settings.target_field
    template = template_of(settings.pair_template, fields)
    tokenized, n_long = pair_tokens.tokenize(
        source.domain, pairs, tokenizer, block, budget, template
    )
    warnings = [_pairs_warning(source, tokenized, template)]
    if n_long:
        warnings.append(_long_warning(source, n_long, len(pairs), block))
    return [pair.document(source.domain) for pair in pairs], tokenized, warnings


def _chats(
    opened: Chats, tokenizer: PreTrainedTokenizerBase, settings: RunSettings, block: int
) -> _OfText:
    source, budget = opened.source, settings.max_tokens
    chats = opened.take(settings.limit, _most_characters(budget))
    documents, tokenized = chat_tokens.tokenize(
        source.domain, chats, tokenizer, block, budget, settings.chat_turns
    )
    n_silent = len(chats) - len(documents)
    warnings = [_chats_warning(source, tokenized, settings.chat_turns)]
    if n_silent:
        warnings.append(_silent_warning(source, n_silent, len(chats), block))
    return documents, tokenized, warnings


def _most_characters(budget: int | None) -> int:
    return max(FEWEST_CHARACTERS, CHARACTERS_A_TOKEN * budget) if budget else CHARACTERS


def _row(
    source: Source,
    documents: Sequence[Document],
    tokenized: Sequence[TokenizedDocument],
    shares: Shares,
) -> dict[str, Any]:
    by_split = {part: [d for d in tokenized if d.split == part] for part in SPLITS}
    return {
        "domain": source.domain,
        "source": source.location,
        "sha256": provenance.digest_texts(document.text for document in documents),
        "documents": {part: len(split) for part, split in by_split.items()},
        "tokens": {part: sum(len(d.ids) for d in split) for part, split in by_split.items()},
        "whole_tokens": sum(len(d.ids) + d.n_left_out for d in tokenized),
        "shortened": sum(d.n_left_out > 0 for d in tokenized),
        "lost_share": shares.lost,
        "unknown_share": shares.unknown,
    }


def _reading_warnings(
    opened: Documents, documents: Sequence[Document], settings: RunSettings
) -> list[dict[str, str]]:
    found, n_cut = {}, sum(not document.whole for document in documents)
    if n_cut:
        found["read-in-part"] = (
            f"{n_cut:,} of {len(documents):,} documents were read no further than "
            f"{_longest(settings):,} characters. More --max-tokens read more."
        )
    if opened.nulls.count:
        field = settings.text_field
        found["null-rows"] = (
            f"rows left out because their {field!r} is null: {opened.nulls.count:,}."
        )
    domain = opened.source.domain
    return [{"code": code, "message": f"{domain}: {said}"} for code, said in found.items()]


def _cut_warning(source: Source, n_documents: int, n_pieces: int, length: int) -> dict[str, str]:
    return {
        "code": "cut-into-pieces",
        "message": f"{source.domain}: {n_documents} documents were cut into {n_pieces} pieces of "
        f"about {length:,} tokens; intervals treat pieces of one text as "
        "independent.",
    }


def _copies_warning(source: Source, n_copies: int, n_documents: int) -> dict[str, str]:
    return {
        "code": "copies",
        "message": f"{source.domain}: {n_copies:,} of {n_documents:,} documents are copies of "
        "others and were left out.",
    }


def _copied_warning(domain: str, share: float) -> dict[str, str]:
    return {
        "code": "overlap",
        "message": f"{domain}: {share:.1%} of the {overlap.LENGTH}-grams of the test text stand "
        "word for word in training text: what is learned by heart flatters every readout that is "
        "fitted, and not the model. Leave copies out of the text.",
    }


def _pairs_warning(
    source: Source, taken: Sequence[TokenizedDocument], template: str
) -> dict[str, str]:
    n_tokens, n_targets = _counted(taken)
    return {
        "code": "pairs",
        "message": f"{source.domain}: of the {n_tokens:,} tokens of {len(taken):,} pairs the "
        f"{n_targets:,} of their targets alone are trained on and scored; the source is context, "
        f"in the template {template!r} (--pair-template), and no pair sees another.",
    }


def _counted(taken: Sequence[TokenizedDocument]) -> tuple[int, int]:
    """Return how many tokens documents have, and how many of them are targets."""
    return sum(len(each.ids) for each in taken), sum(each.n_targets for each in taken)


def _long_warning(source: Source, n_long: int, n_pairs: int, block: int) -> dict[str, str]:
    return {
        "code": "pairs-left-out",
        "message": f"{source.domain}: {n_long:,} of {n_pairs:,} pairs are longer than a block of "
        f"{block} tokens and were left out.",
    }


def _chats_warning(
    source: Source, taken: Sequence[TokenizedDocument], turns: str
) -> dict[str, str]:
    n_tokens, n_targets = _counted(taken)
    n_cut = sum(document.n_left_out > 0 for document in taken)
    said = "what the assistant says" if turns == "assistant" else "all but the first of each chat"
    return {
        "code": "chats",
        "message": f"{source.domain}: of the {n_tokens:,} tokens of {len(taken):,} chats in the "
        f"tokenizer's template {n_targets:,}, {said} (--chat-turns {turns}), are trained on and "
        f"scored; the rest is context, and no chat sees another. Cut at the end of their block: "
        f"{n_cut:,}.",
    }


def _silent_warning(source: Source, n_silent: int, n_chats: int, block: int) -> dict[str, str]:
    return {
        "code": "chats-left-out",
        "message": f"{source.domain}: in {n_silent:,} of {n_chats:,} chats the assistant says "
        f"nothing within a block of {block} tokens (--block): they were left out.",
    }

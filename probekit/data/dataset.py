"""From the texts of the settings to tokenized documents, and what a reader must know of them."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from probekit import provenance
from probekit.data import documents as text
from probekit.data import pairs, prompted, tokenization
from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import SPLITS, Document, Source
from probekit.settings import Settings

# Reading stops at so many characters, or so many for each token wanted: ten times what a
# token holds, so that long documents are shortened rather than few documents read.
CHARACTERS = 10_000_000
CHARACTERS_A_TOKEN = 40
# Of pairs, which are never shortened, no more are read than there are to choose from.
FEWEST_CHARACTERS = 100_000

# Documents of one source as read and as tokenized, and warnings.
OfSource = tuple[list[Document], list[TokenizedDocument], list[dict[str, str]]]


def read(
    tokenizer: PreTrainedTokenizerBase, settings: Settings, block: int
) -> tuple[list[TokenizedDocument], list[dict[str, Any]], list[dict[str, str]]]:
    """Read and tokenize the texts that settings name: documents, or pairs.

    A text whose first row has both fields of pairs is pairs.

    Args:
        tokenizer: The model's.
        settings: Which texts, and how much of each.
        block: Tokens in a block; longer pairs are left out.

    Returns:
        The documents of all texts; rows of `text` in results.json; code and message of what a
        reader must know of the texts.

    Raises:
        DataError: If a text cannot be used as asked.
        SettingsError: If two texts have one name.
    """
    sources = text.sources(settings.text or text.BUILT_IN)
    documents: list[TokenizedDocument] = []
    rows, warnings = [], []
    fields = settings.source_field, settings.target_field
    for source in sources:
        if pairs.holds_pairs(source.location, *fields):
            found, tokenized, told = _pairs(source, tokenizer, settings, block)
        else:
            pairs.require_named(source.location, *fields)
            found, tokenized, told = _documents(source, tokenizer, settings)
        documents += tokenized
        rows.append(_row(source, found, tokenized))
        warnings += told
    return documents, rows, warnings


def _documents(source: Source, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> OfSource:
    most = max(CHARACTERS, CHARACTERS_A_TOKEN * (settings.max_tokens or 0))
    found = text.read(source, settings.text_field, settings.limit, most)
    cut, was_cut = tokenization.pieces(found, tokenizer)
    tokenized = tokenization.tokenize(cut, tokenizer, settings.max_tokens)
    return found, tokenized, [_cut_warning(source, len(found), len(cut))] if was_cut else []


def _pairs(
    source: Source, tokenizer: PreTrainedTokenizerBase, settings: Settings, block: int
) -> OfSource:
    wanted = settings.max_tokens
    most = max(FEWEST_CHARACTERS, CHARACTERS_A_TOKEN * wanted) if wanted else CHARACTERS
    fields = settings.source_field, settings.target_field
    found = prompted.read(source, fields, settings.limit, most)
    taken, n_long = prompted.tokenize(source.domain, found, tokenizer, block, settings.max_tokens)
    documents = [prompted.document(source.domain, pair) for pair in found]
    warnings = [_pairs_warning(source, taken)]
    if n_long:
        warnings.append(_long_warning(source, n_long, len(found), block))
    return documents, taken, warnings


def _row(
    source: Source, found: Sequence[Document], tokenized: Sequence[TokenizedDocument]
) -> dict[str, Any]:
    by_split = {part: [d for d in tokenized if d.split == part] for part in SPLITS}
    return {
        "domain": source.domain,
        "source": source.location,
        "sha256": provenance.digest_texts(document.text for document in found),
        "documents": {part: len(own) for part, own in by_split.items()},
        "tokens": {part: sum(len(d.ids) for d in own) for part, own in by_split.items()},
    }


def _cut_warning(source: Source, n_documents: int, n_pieces: int) -> dict[str, str]:
    return {
        "code": "cut-into-pieces",
        "message": f"{source.domain}: {n_documents} documents were cut into {n_pieces} pieces of "
        f"about {tokenization.PIECE_TOKENS:,} tokens; intervals treat pieces of one text as "
        "independent.",
    }


def _pairs_warning(source: Source, taken: Sequence[TokenizedDocument]) -> dict[str, str]:
    n_tokens, n_targets = (
        sum(len(document.ids) for document in taken),
        sum(document.n_targets for document in taken),
    )
    return {
        "code": "pairs",
        "message": f"{source.domain}: of the {n_tokens:,} tokens of {len(taken):,} pairs the "
        f"{n_targets:,} of their targets alone are trained on and scored; the source is context, "
        f"in the paper's template ({pairs.TEMPLATE.format(source='...')!r}), and no pair sees "
        "another.",
    }


def _long_warning(source: Source, n_long: int, n_pairs: int, block: int) -> dict[str, str]:
    return {
        "code": "pairs-left-out",
        "message": f"{source.domain}: {n_long:,} of {n_pairs:,} pairs are longer than a block of "
        f"{block} tokens and were left out.",
    }

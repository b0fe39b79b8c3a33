"""Spell tokens for a reader, each as the text that it stands for.

The tokenizer's own decoder says what a token adds to the text before it, its leading space
included. What is only a part of a UTF-8 character is spelt as its bytes, such as <0xE2><0x80>.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

# A decoder may drop the space at the start of a text; behind another token it keeps it.
BEFORE = "x"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def spell(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> list[str]:
    """Return the text of each token, as it is: unescaped, with control characters.

    Args:
        tokenizer: Any tokenizer of transformers.
        token_ids: Token ids; one that the tokenizer does not have, as where the unembedding
            has more rows, is spelt <token 12>.
    """
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    special, added = set(tokenizer.all_special_ids), tokenizer.added_tokens_decoder
    spelt = []
    for index in token_ids:
        token = names.get(index, f"<token {index}>")
        text = token if index in special or index not in names else _decoded(tokenizer, token)
        # What decoders make of a part of a character.
        if REPLACEMENT in text or not text:
            text = token if index in added else _exact(token, text)
        # Half of a surrogate pair cannot be written to a file.
        spelt.append(utf8(text.encode("utf-8", "surrogatepass")))
    return spelt


def utf8(raw: bytes) -> str:
    r"""Return bytes as text, those that are no whole character spelt out.

    >>> utf8(b" \xe2\x80\x94 \xe2\x80")
    ' — <0xE2><0x80>'
    """
    text = ""
    while raw:
        try:
            return text + raw.decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = "".join(f"<0x{byte:02X}>" for byte in raw[error.start : error.end])
            text += raw[: error.start].decode("utf-8") + wrong
            raw = raw[error.end :]
    return text


def _decoded(tokenizer: PreTrainedTokenizerBase, token: str) -> str:
    before = tokenizer.convert_tokens_to_string([BEFORE])
    return tokenizer.convert_tokens_to_string([BEFORE, token]).removeprefix(before)


def _exact(token: str | bytes, text: str) -> str:
    """Return the bytes of a token by name, where those can be told; its decoded text otherwise."""
    if isinstance(token, bytes):  # so in the vocabulary of some tokenizers that models bring
        return utf8(token)
    # Printed ASCII stands for itself: a byte that has a name keeps it.
    if all(character in BYTES for character in token):
        return utf8(bytes(BYTES[character] for character in token))
    # A model of bytes, whose tokens are these in Latin-1.
    if not text and len(token) == 1 and token <= "\xff":
        return utf8(token.encode("latin-1"))
    return text


def _bytes_by_character() -> dict[str, int]:
    """Return the bytes by the characters that stand for them in byte-level BPE.

    Bytes that print in Latin-1 stand for themselves, the others for characters from U+0100 on.

    Source: Radford et al. (2019), "Language models are unsupervised multitask learners".

    >>> [chr(b) for c, b in _bytes_by_character().items() if c in "AĠ"], len(_bytes_by_character())
    (['A', ' '], 256)
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }


BYTES = _bytes_by_character()

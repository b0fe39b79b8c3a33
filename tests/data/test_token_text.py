"""Tokens are spelt as the text that they stand for, whatever the tokenizer."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from probekit.data.token_text import BYTES, spell

TEXT = "the cat, the cat.\n  naïve — 👩\u200d🔬 שלום e\u0301\x00"


def encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def ids_of(tokenizer: PreTrainedTokenizerBase, *tokens: str) -> list[int]:
    return [tokenizer.get_vocab()[token] for token in tokens]


def byte_level() -> PreTrainedTokenizerFast:
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=270,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    built.train_from_iterator(["the cat, the cat. the cat"] * 9, trainer)
    built.add_tokens([AddedToken("é<new>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<|end|>")


def with_byte_fallback() -> PreTrainedTokenizerFast:
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += ["▁", "▁the", "▁cat", "t", "h", "e", "c", "a", ",", "."]
    built = Tokenizer(
        models.Unigram([(name, -1.0) for name in names], unk_id=0, byte_fallback=True)
    )
    built.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    built.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="</s>", unk_token="<unk>")


def word_piece() -> PreTrainedTokenizerFast:
    names = ["[UNK]", "the", "cat", "##s", "##'", "."]
    built = Tokenizer(
        models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    )
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=built, unk_token="[UNK]")


def whole(pieces: list[str]) -> str:
    """Return spelt tokens as text again: named bytes are bytes."""
    raw, rest = b"", "".join(pieces)
    while rest:
        if rest.startswith("<0x"):
            raw, rest = raw + bytes([int(rest[3:5], 16)]), rest[6:]
        else:
            raw, rest = raw + rest[0].encode(), rest[1:]
    return raw.decode()


@pytest.mark.parametrize("build", [byte_level, with_byte_fallback, ByT5Tokenizer])
def test_the_tokens_of_a_text_spell_it(build: type[PreTrainedTokenizerBase]) -> None:
    tokenizer = build()
    pieces = spell(tokenizer, encoded(tokenizer, TEXT))
    assert whole(pieces).removeprefix(" ") == TEXT
    assert "<0xF0>" in "".join(pieces)  # the emoji is split
    assert "�" not in "".join(pieces)
    assert "\x00" in pieces


def test_a_byte_level_token_has_its_space_and_the_part_of_a_character_its_bytes() -> None:
    tokenizer = byte_level()
    assert spell(tokenizer, encoded(tokenizer, "the cat")) == ["the", " cat"]
    assert spell(tokenizer, encoded(tokenizer, "—"))[0] == "<0xE2>"
    assert spell(tokenizer, ids_of(tokenizer, "Ċ", "Ġ", "<|end|>", "é<new>")) == [
        "\n",
        " ",
        "<|end|>",
        "é<new>",
    ]


def test_a_token_after_metaspace_has_its_space_and_ascii_bytes_are_characters() -> None:
    tokenizer = with_byte_fallback()
    ids = ids_of(tokenizer, "▁cat", "▁", "a", "<0x0A>", "<0xE2>", "</s>")
    assert spell(tokenizer, ids) == [" cat", " ", "a", "\n", "<0xE2>", "</s>"]


def test_the_rest_of_a_word_has_no_space_and_the_next_word_has() -> None:
    tokenizer = word_piece()
    assert spell(tokenizer, encoded(tokenizer, "the cats")) == [" the", " cat", "s"]


def test_words_without_a_decoder_stand_apart() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<end>": 2}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    assert spell(tokenizer, [0, 1, 2]) == [" a", " b", "<end>"]


def test_an_id_without_a_token_says_so() -> None:
    assert spell(word_piece(), [5, 6, 10**6]) == [".", "<token 6>", "<token 1000000>"]


def test_the_characters_of_bytes_are_those_of_byte_level_bpe() -> None:
    assert set(BYTES) == set(pre_tokenizers.ByteLevel.alphabet())
    for character, byte in BYTES.items():
        assert decoders.ByteLevel().decode([character]) == bytes([byte]).decode(errors="replace")

"""What tokenizers of each kind lose of a text, worked by hand."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BatchEncoding, PreTrainedTokenizerFast

from probekit.data.blocks import TokenizedDocument
from probekit.data.documents import Document
from probekit.data.lost_text import Shares
from probekit.data.prompted import pair_tokens
from probekit.data.prompted.pairs import PLAIN, Pair
from probekit.data.tokenization import tokenize
from probekit.errors import DataError
from probekit.runs.setup import load_model, prepare, with_machine_defaults
from probekit.settings import Settings
from support import tiny_run

LETTERS = "abcdefghijklmnopqrstuvwxyz "
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXT = "the cat, naïve\n"  # 16 bytes: a comma, an ï of two and a line feed are no letters


def wrapped(backend: Tokenizer, unknown: str | None = None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=unknown)


def characters(known: str = LETTERS, unknown: str | None = None) -> PreTrainedTokenizerFast:
    names = [*known, *([unknown] if unknown else [])]
    vocabulary = {name: index for index, name in enumerate(names)}
    return wrapped(Tokenizer(models.BPE(vocabulary, [], unk_token=unknown)), unknown)


def byte_level() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({each: i for i, each in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # Its spans leave white space out, which a token has all the same.
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    backend.decoder = decoders.ByteLevel()
    return wrapped(backend)


def byte_fallback(kind: str) -> PreTrainedTokenizerFast:
    names = ["<unk>", *BYTES, "▁", "t", "h", "e", "c", "a"]
    vocabulary = {name: index for index, name in enumerate(names)}
    bpe = models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    scored = [(name, -1.0) for name in names]
    unigram = models.Unigram(scored, unk_id=0, byte_fallback=True)
    backend = Tokenizer(bpe if kind == "bpe" else unigram)
    marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    backend.normalizer = normalizers.Sequence(marks)
    return wrapped(backend, "<unk>")


def normalizing() -> PreTrainedTokenizerFast:
    found = characters(LETTERS + ",\n")
    steps = [normalizers.NFKC(), normalizers.Lowercase(), normalizers.NFD()]
    found.backend_tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.StripAccents()])
    return found


def words() -> PreTrainedTokenizerFast:
    names = ["<unk>", "the", "cat", ",", "na", "##ïve"]
    vocabulary = {name: index for index, name in enumerate(names)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return wrapped(backend, "<unk>")


def document(tokenizer: PreTrainedTokenizerFast, text: str) -> TokenizedDocument:
    three = [Document("d", str(number), f"{text}{'a' * number}") for number in range(3)]
    return tokenize(three, tokenizer, None)[0]


@pytest.mark.parametrize(
    ("tokenizer", "lost", "n_unknown"),
    [
        (characters(), ",ï\n", 0),
        (characters(unknown="<unk>"), ",ï\n", 3),
        (characters(LETTERS.strip()), " , ï\n", 0),  # white space that makes no difference
        (byte_level(), "", 0),
        (byte_fallback("bpe"), "", 0),
        (byte_fallback("unigram"), "", 0),
        (normalizing(), "", 0),
        (words(), "", 0),
    ],
    ids=["drops", "unknown", "no space", "bytes", "bpe", "unigram", "normalizes", "words"],
)
def test_what_a_tokenizer_of_each_kind_loses(
    tokenizer: PreTrainedTokenizerFast, lost: str, n_unknown: int
) -> None:
    found = document(tokenizer, TEXT)
    assert (found.lost, found.n_unknown) == (lost, n_unknown)
    assert found.n_bytes == 16 - len(lost.encode())


def test_what_a_normalizer_changes_is_not_lost_and_what_it_drops_is() -> None:
    assert document(normalizing(), "The ﬁne NAÏVE cat").lost == ""
    assert document(normalizing(), "nai\N{COMBINING DIAERESIS}ve").lost == "\N{COMBINING DIAERESIS}"
    dropping = characters()
    dropping.backend_tokenizer.normalizer = normalizers.Replace(Regex("[qx]"), "")
    assert document(dropping, "fax the queen").lost == "xq"


def test_an_unknown_word_loses_all_of_its_bytes_and_one_that_is_written_so_none() -> None:
    found = document(tiny_run.tokenizer(), "w1 zebra <unk> w2 ")
    assert (found.lost, found.n_unknown) == ("zebra", 1)
    assert found.n_bytes == len("w1  <unk> w2 ")


def test_a_window_has_what_is_lost_in_it() -> None:
    text = "".join(f"{'abcdefgh'[n % 8]}é" for n in range(300))
    many = [Document("d", str(number), text[number:]) for number in range(30)]
    for found in tokenize(many, characters(), 30 * 150):
        assert len(found.ids) == 150
        assert set(found.lost) == {"é"}
        assert len(found.lost) in (149, 150, 151)
        assert found.n_bytes == 150


def test_of_a_pair_it_is_what_its_target_loses() -> None:
    pairs = [Pair(f"line {n}", "w1 zebra", f"w2 zebra w{n}") for n in range(3)]
    found = pair_tokens.tokenize("d", pairs, tiny_run.tokenizer(), 64, None, PLAIN)[0][0]
    assert (found.lost, found.n_unknown, found.n_bytes) == ("zebra", 1, len("w2  w0"))


@pytest.mark.parametrize(
    ("tokenizer", "lost", "n_unknown"),
    [
        (characters(), ",ï\n", 0),
        (characters(unknown="<unk>"), ",ï\n", 3),
        (byte_level(), "", 0),
        (normalizing(), "", 0),
        (words(), "", 0),
    ],
    ids=["drops", "unknown", "bytes", "normalizes", "words"],
)
def test_a_slow_tokenizer_loses_the_same(
    tokenizer: PreTrainedTokenizerFast,
    lost: str,
    n_unknown: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BatchEncoding, "is_fast", False)
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda _: False))
    found = document(tokenizer, TEXT)
    assert (found.lost, found.n_unknown) == (lost, n_unknown)


def test_shares_are_of_bytes_and_of_tokens_and_above_a_thousandth_they_are_much() -> None:
    shares = Shares.of([document(characters(unknown="<unk>"), TEXT)])
    assert (shares.lost, shares.unknown) == (4 / 16, 3 / 15)
    assert not shares.check.passed
    assert shares.check.message.startswith(
        "d: the tokenizer loses 25.00% of the bytes of this text, and 20.00% of its tokens are "
        "unknown ones. Lost most often: ',', 'ï', '\\n'. "
    )
    assert Shares.of([document(characters(), "abc " * 500 + "é")]).check.passed
    assert not Shares.of([document(characters(), "abc " * 400 + "é")]).check.passed


def test_a_text_of_which_all_is_lost_is_an_error() -> None:
    lost = document(characters(unknown="<unk>"), "日本")
    with pytest.raises(DataError, match="knows no character of the text of 'd'"):
        Shares.of([lost])


def test_a_run_says_what_is_lost_and_counts_no_byte_of_it(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    texts = [f"{text} zebra" for text in tiny_run.documents()]
    file = tiny_run.jsonl(tmp_path / "words.jsonl", texts)
    settings = Settings.from_mapping({**asked, "text": (str(file),)})
    loaded = load_model(settings)
    setup = prepare(loaded, with_machine_defaults(settings, loaded))
    (row,) = setup.text
    n_words = sum(len(text.split()) for text in texts)
    assert row["unknown_share"] == len(texts) / n_words
    assert row["lost_share"] == 5 * len(texts) / sum(len(text.encode()) for text in texts)
    assert "lost-text" in [warning["code"] for warning in setup.warnings]
    without = [(len(text) - 5) / len(text.split()) for text in texts]
    assert setup.bytes_per_token == without

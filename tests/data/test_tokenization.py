"""How documents are shortened, and cut where there are few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Split
from transformers import BatchEncoding

from probekit.data.documents import Document
from probekit.data.tokenization import common_length, pieces, tokenize
from probekit.errors import DataError
from support import tiny_run


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 5000))
def test_a_common_length_fits_the_budget_and_wastes_little(lengths: list[int], total: int) -> None:
    cut = common_length(lengths, total)
    kept = sum(min(length, cut) for length in lengths)
    assert kept <= max(total, len(lengths))
    more = sum(min(length, cut + 1) for length in lengths)
    assert more > total or more == sum(lengths)


def documents(*texts: str) -> list[Document]:
    return [Document("d", str(number), text) for number, text in enumerate(texts)]


def test_twenty_documents_are_left_whole() -> None:
    twenty = documents(*(f"w{n} w1" for n in range(20)))
    assert pieces(twenty, tiny_run.tokenizer()) == (twenty, None)


@pytest.mark.parametrize(("lines", "length"), [(1000, 200), (10_000, 300), (40_000, 1024)])
def test_few_documents_are_cut_at_line_ends_and_nothing_is_lost(lines: int, length: int) -> None:
    text = "".join(f"w{n % 50} w1 w2\n" for n in range(lines))
    cut, cut_after = pieces(documents(text), tiny_run.tokenizer())
    assert cut_after == length
    assert "".join(piece.text for piece in cut) == text
    assert all(piece.text.endswith("\n") for piece in cut)
    assert {len(piece.text.split()) for piece in cut[:-1]} == {-(-length // 3) * 3}
    assert cut[1].name == "0 piece 2"


def test_a_line_longer_than_a_piece_is_cut_between_words() -> None:
    cut, _ = pieces(documents("w1 " * 500), tiny_run.tokenizer())
    assert [len(piece.text.split()) for piece in cut] == [200, 200, 100]


def test_a_script_without_spaces_is_cut_too() -> None:
    words = tiny_run.tokenizer()
    words.backend_tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    cut, _ = pieces(documents("\u5b57" * 1000), words)
    assert [len(piece.text) for piece in cut] == [256, 256, 256, 232]  # four times 64 characters


def test_windows_lie_anywhere_in_long_documents_and_have_the_bytes_of_their_tokens() -> None:
    words = tiny_run.tokenizer()
    texts = [" ".join([f"w{n}", *["w1 w10"] * 200, "w56"]) for n in range(30)]
    found = tokenize(documents(*texts), words, 30 * 192)
    assert {len(document.ids) for document in found} == {192}
    assert sum(n == document.ids[0] - 3 for n, document in enumerate(found)) < 3  # a head
    assert {document.n_left_out for document in found} == {402 - 192}
    # Of w1 and w10 a window has as many of each, and a space after each of them.
    inner = [document for document in found if not {3 + 56, 3} & set(document.ids)]
    assert {document.n_bytes for document in inner} == {96 * 3 + 96 * 4}
    assert not any(document.whole for document in inner)


@pytest.mark.parametrize(
    ("max_tokens", "length"),
    [(5000, 128), (13_500, 135), (30_000, 192), (60_000, 300), (None, 600)],
)
def test_windows_are_longer_where_documents_are_many(max_tokens: int, length: int) -> None:
    many = documents(*(f"w{n % 57} w{n // 57} " + "w1 " * 598 for n in range(400)))
    assert {len(found.ids) for found in tokenize(many, tiny_run.tokenizer(), max_tokens)} == {
        length
    }


def test_the_window_of_a_document_depends_on_nothing_but_its_content_and_length() -> None:
    texts = [" ".join(f"w{(n + place * n) % 57}" for place in range(500)) for n in range(30)]
    found = tokenize(documents(*texts), tiny_run.tokenizer(), 30 * 200)
    turned = tokenize(documents(*texts[::-1]), tiny_run.tokenizer(), 30 * 200)
    assert [d.ids for d in found] == [d.ids for d in turned[::-1]]
    longer = tokenize(documents(*texts, texts[0] + " w1"), tiny_run.tokenizer(), 31 * 200)
    assert [d.ids for d in found] == [d.ids for d in longer[:-1]]


def test_copies_are_left_out_first_and_where_there_is_room_stand_on_one_side() -> None:
    texts = [" ".join(f"w{(n + place * n) % 57}" for place in range(500)) for n in range(30)]
    many = documents(*(text for text in texts for _ in range(100)))
    found = tokenize(many, tiny_run.tokenizer(), 30 * 200)
    assert [d.ids for d in found] == [
        d.ids for d in tokenize(documents(*texts), tiny_run.tokenizer(), 30 * 200)
    ]
    whole = tokenize(many, tiny_run.tokenizer(), 3000 * 500)
    assert len(whole) == 3000
    assert all(len({d.split for d in whole[n : n + 100]}) == 1 for n in range(0, 3000, 100))


def test_a_window_that_stops_before_the_end_has_no_end_to_predict() -> None:
    texts = [" ".join([f"w{n}"] * 300) for n in range(30)]
    found = tokenize(documents(*texts), tiny_run.tokenizer(), 30 * 200)
    assert not any(document.whole for document in found)
    short = tokenize(documents(*texts), tiny_run.tokenizer(), 30 * 300)
    assert all(document.whole and not document.n_left_out for document in short)


def test_of_a_slow_tokenizer_a_window_has_its_share_of_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BatchEncoding, "is_fast", False)
    found = tokenize(documents(*(f"w{n} " * 400 for n in range(10))), tiny_run.tokenizer(), 2000)
    assert {len(document.ids) for document in found} == {200}
    assert found[3].n_bytes == 600


def test_a_text_of_which_the_tokenizer_makes_nothing_is_an_error() -> None:
    words = tiny_run.tokenizer()
    words.backend_tokenizer.model.unk_token = "absent"
    words.backend_tokenizer.normalizer = Replace("x", "")
    with pytest.raises(DataError, match="makes no token of the text of 'd'"):
        tokenize(documents("x", "xx", "xxx"), words, None)

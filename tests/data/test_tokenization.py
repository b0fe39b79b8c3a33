"""How documents are shortened, and cut where there are few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.normalizers import Replace

from probekit.data.documents import Document
from probekit.data.tokenization import PIECE_TOKENS, common_length, pieces, tokenize
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
    assert pieces(twenty, tiny_run.tokenizer()) == (twenty, False)


def test_few_documents_are_cut_at_line_ends_and_nothing_is_lost() -> None:
    text = "".join(f"w{n % 50} w1 w2\n" for n in range(1000))
    cut, was_cut = pieces(documents(text), tiny_run.tokenizer())
    assert was_cut
    assert "".join(piece.text for piece in cut) == text
    assert all(piece.text.endswith("\n") for piece in cut)
    assert [len(piece.text.split()) for piece in cut[:-1]] == [PIECE_TOKENS + 2] * 2
    assert cut[1].name == "0 piece 2"


def test_a_line_longer_than_a_piece_is_cut_between_words() -> None:
    cut, _ = pieces(documents("w1 " * 3000), tiny_run.tokenizer())
    assert [len(piece.text.split()) for piece in cut] == [1024, 1024, 952]


def test_a_cut_document_keeps_its_share_of_bytes() -> None:
    found = tokenize(documents(*(f"w{n} " * 400 for n in range(10))), tiny_run.tokenizer(), 2000)
    assert {len(document.ids) for document in found} == {200}
    assert found[3].n_bytes == 600


def test_a_text_of_which_the_tokenizer_makes_nothing_is_an_error() -> None:
    words = tiny_run.tokenizer()
    words.backend_tokenizer.model.unk_token = "absent"
    words.backend_tokenizer.normalizer = Replace("x", "")
    with pytest.raises(DataError, match="makes no token of the text of 'd'"):
        tokenize(documents("x", "xx", "xxx"), words, None)

"""Token blocks, their masks, and how documents are shortened and cut."""

import pytest
import tiny_run
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.normalizers import Replace

from probekit.errors import DataError
from probekit.targets import draw_positions
from probekit.text import Document
from probekit.tokens import (
    PIECE_TOKENS,
    Blocks,
    blocks_by_split,
    common_length,
    pack,
    pieces,
    tokenize,
)

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)
BEGINNINGS = st.sampled_from([(None, None), (None, 9), (0, 9), (9, 9), (0, None)])


def packed(sizes: list[int], block: int, bos: int | None, end: int | None) -> Blocks:
    return pack([[5] * size for size in sizes], range(len(sizes)), block, bos, end)


def runs(blocks: Blocks) -> list[int]:
    """Return the length of each stretch of one document in one block, by hand."""
    found: list[int] = []
    for row in blocks.documents.tolist():
        for at, number in enumerate(row):
            if number == -1:
                continue
            if at and row[at - 1] == number:
                found[-1] += 1
            else:
                found.append(1)
    return found


@given(SIZES, st.integers(3, 16), BEGINNINGS, st.integers(1, 5))
def test_a_piece_of_n_tokens_has_n_minus_offset_positions(
    sizes: list[int], block: int, ends: tuple[int | None, int | None], offset: int
) -> None:
    blocks = packed(sizes, block, *ends)
    offset = min(offset, block - 1)
    assert int(blocks.valid(offset).sum()) == sum(max(0, n - offset) for n in runs(blocks))


@given(SIZES, st.integers(3, 16), BEGINNINGS, st.integers(1, 5))
def test_a_target_lies_in_the_position_s_own_document(
    sizes: list[int], block: int, ends: tuple[int | None, int | None], offset: int
) -> None:
    blocks = packed(sizes, block, *ends)
    offset = min(offset, block - 1)
    row, at = blocks.valid(offset).nonzero(as_tuple=True)
    own = blocks.documents[row, at]
    assert (own >= 0).all()
    assert torch.equal(own, blocks.documents[row, at + offset])
    assert torch.equal(blocks.targets(offset)[row, at], blocks.token_ids[row, at + offset])


@given(SIZES, st.integers(3, 16), BEGINNINGS)
def test_no_token_of_a_document_is_lost(
    sizes: list[int], block: int, ends: tuple[int | None, int | None]
) -> None:
    blocks = packed(sizes, block, *ends)
    for number, size in enumerate(sizes):
        own = blocks.token_ids[blocks.documents == number].tolist()
        assert own.count(5) == size


def test_bos_comes_first_in_each_block_and_is_never_doubled() -> None:
    blocks = packed([4, 4, 9], 6, bos=7, end=9)
    assert (blocks.token_ids[:, 0] == 7).all()
    assert not (blocks.token_ids[:, 1:] == blocks.token_ids[:, :-1])[
        blocks.token_ids[:, 1:] == 7
    ].any()
    assert (blocks.documents[:, 0] == -1).all()


def test_id_0_is_a_bos_like_any_other() -> None:
    assert packed([4], 6, bos=0, end=9).token_ids.tolist() == [[0, 5, 5, 5, 5, 9]]


def test_one_token_for_bos_and_end_is_masked_by_document() -> None:
    blocks = packed([2, 2], 8, bos=9, end=9)
    assert blocks.token_ids.tolist() == [[9, 5, 5, 9, 5, 5, 9, 9]]
    # The end is a legal target, the BOS no position, and the filling neither.
    assert blocks.valid(1).tolist() == [[False, True, True, False, True, True, False, False]]


def test_draws_are_even_over_documents_and_the_same_for_a_seed() -> None:
    blocks = packed([30, 30, 5], 40, bos=0, end=9)
    first = draw_positions(blocks, ["a", "a", "a"], horizon=2, count=12, seed=1)
    assert torch.equal(first, draw_positions(blocks, ["a", "a", "a"], 2, 12, seed=1))
    assert not torch.equal(first, draw_positions(blocks, ["a", "a", "a"], 2, 12, seed=2))
    assert blocks.documents[first].bincount().tolist() == [4, 4, 4]
    assert not (first & ~blocks.valid(2)).any()


def test_each_domain_gets_its_own_draw() -> None:
    blocks = packed([30, 5], 40, bos=0, end=9)
    drawn = draw_positions(blocks, ["a", "b"], horizon=2, count=3, seed=0)
    assert blocks.documents[drawn].bincount().tolist() == [3, 3]


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


def test_a_domain_without_a_target_at_the_horizon_says_what_is_needed() -> None:
    words = tiny_run.tokenizer()
    long = tokenize(documents(*(f"w{n} " * 30 for n in range(9))), words, None)
    short = [Document("short", str(n), f"w{n} w1") for n in range(9)]
    both = [*long, *tokenize(short, words, None)]
    assert blocks_by_split(both, words, 32, horizon=2)
    with pytest.raises(DataError, match=r"short: the train split has no position with a target 4"):
        blocks_by_split(both, words, 32, horizon=4)


def test_the_end_behind_a_cut_is_nobodys_target() -> None:
    blocks = pack([[5, 6], [7, 8]], [0, 1], block=6, bos=None, end=9, whole=[False, True])
    assert blocks.token_ids[0].tolist() == [5, 6, 9, 7, 8, 9]
    assert blocks.documents[0].tolist() == [0, 0, -1, 1, 1, 1]
    assert blocks.valid(1)[0].tolist() == [True, False, False, True, True, False]

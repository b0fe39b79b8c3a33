"""Token blocks and their masks."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from probekit.data.blocks import (
    OUTSIDE,
    Blocks,
    TokenizedDocument,
    blocks_by_split,
    pack,
    pack_prompted,
    shortened,
)
from probekit.data.documents import SPLITS, Document, Split
from probekit.data.separator import Separator
from probekit.data.targets import draw_positions
from probekit.data.tokenization import tokenize
from probekit.errors import DataError
from support import tiny_run
from support.separators import ends

KNOWN = ends(tiny_run.BOS, tiny_run.END)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)
BEGINNINGS = st.sampled_from([(None, None), (None, 9), (0, 9), (9, 9), (0, None)])


def packed(sizes: list[int], block: int, bos: int | None, end: int | None) -> Blocks:
    return pack([[5] * size for size in sizes], range(len(sizes)), block, ends(bos, end))


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


def test_a_domain_without_a_target_at_the_horizon_says_what_is_needed() -> None:
    words = tiny_run.tokenizer()
    texts = [Document("d", str(n), f"w{n} " * 30) for n in range(9)]
    long = tokenize(texts, words, None)
    short = [Document("short", str(n), f"w{n} w1") for n in range(9)]
    both = [*long, *tokenize(short, words, None)]
    assert blocks_by_split(both, KNOWN, 32, horizon=2)
    with pytest.raises(DataError, match=r"short: the train split has no position with a target 4"):
        blocks_by_split(both, KNOWN, 32, horizon=4)


def test_bos_alone_parts_documents_and_is_not_doubled() -> None:
    blocks = pack([[5, 6], [7, 8], [4]], [0, 1, 2], 6, Separator("bos", 0, 0, scored=True))
    assert blocks.token_ids.tolist() == [[0, 5, 6, 0, 7, 8], [0, 4, 0, 0, 0, 0]]
    # The BOS behind a document is its target where it stands in the same block.
    assert blocks.documents.tolist() == [[-1, 0, 0, 0, 1, 1], [-1, 2, 2, -1, -1, -1]]
    assert blocks.valid(1).sum(dim=1).tolist() == [3, 1]


def test_nothing_between_documents_leaves_bos_at_the_start_of_a_block() -> None:
    blocks = pack([[5, 6], [7, 8], [4]], [0, 1, 2], 6, Separator("none", 0, None))
    assert blocks.token_ids.tolist() == [[0, 5, 6, 7, 8, 4]]
    assert blocks.valid(1).tolist() == [[False, True, False, True, False, False]]


def test_a_separator_that_is_not_scored_is_nobodys_target() -> None:
    blocks = pack([[5, 6], [7, 8]], [0, 1], 8, Separator("eos", 0, 9))
    assert blocks.token_ids.tolist() == [[0, 5, 6, 9, 0, 7, 8, 9]]
    assert blocks.documents.tolist() == [[-1, 0, 0, -1, -1, 1, 1, -1]]


def test_the_end_behind_a_cut_is_nobodys_target() -> None:
    blocks = pack([[5, 6], [7, 8]], [0, 1], 6, ends(None, 9), whole=[False, True])
    assert blocks.token_ids[0].tolist() == [5, 6, 9, 7, 8, 9]
    assert blocks.documents[0].tolist() == [0, 0, -1, 1, 1, 1]
    assert blocks.valid(1)[0].tolist() == [True, False, False, True, True, False]


@pytest.mark.parametrize(
    ("bos", "end", "ids", "documents", "positions"),
    [
        (0, 9, [0, 5, 6, 7, 8, 9, 9], [-1, -1, 4, 4, 4, 4, -1], {1: [2, 3, 4], 2: [2, 3], 3: [2]}),
        (9, 9, [9, 5, 6, 7, 8, 9, 9], [-1, -1, 4, 4, 4, 4, -1], {1: [2, 3, 4], 2: [2, 3], 3: [2]}),
        (None, 9, [5, 6, 7, 8, 9, 9, 9], [-1, 4, 4, 4, 4, -1, -1], {1: [1, 2, 3], 3: [1], 4: []}),
        (0, None, [0, 5, 6, 7, 8, 0, 0], [-1, -1, 4, 4, 4, -1, -1], {1: [2, 3], 2: [2], 3: []}),
    ],
)
def test_targets_of_a_pair_are_predicted_from_its_last_prompt_token_on(
    bos: int | None, end: int | None, ids: list[int], documents: list[int],
    positions: dict[int, list[int]],
) -> None:  # fmt: skip
    # 5 and 6 are the prompt, 7 and 8 the target.
    blocks = pack_prompted([[5, 6, 7, 8]], [4], [[range(2, 4 + (end is not None))]], 7, bos, end)
    assert blocks.token_ids.tolist() == [ids]
    assert blocks.documents.tolist() == [documents]
    for offset, wanted in positions.items():
        assert blocks.valid(offset).nonzero()[:, 1].tolist() == wanted
    assert blocks.targets(1)[blocks.valid(1)].tolist() == ([7, 8] if end is None else [7, 8, 9])


def test_targets_of_a_chat_are_predicted_from_their_own_turn() -> None:
    # Two turns, the tokens 3 and 4 and the token 8; what lies between is context.
    chat = TokenizedDocument(
        "d", "", "test", [1, 2, 3, 4, 5, 6, 7, 8], 1, "", False, prompt=2, asides=((4, 7),)
    )
    parts = [replace(chat, split=part) for part in SPLITS]
    blocks = blocks_by_split(parts, KNOWN, 10, horizon=1)["test"]
    assert blocks.documents.tolist() == [[-1, -1, 2, 2, 2, -1, -1, 2, 2, -1]]
    found = {k: blocks.targets(k)[blocks.valid(k)].tolist() for k in (1, 2, 3, 4)}
    assert found == {1: [3, 4, 8], 2: [4], 3: [], 4: []}  # nor the end, which is the template's


PAIRS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6)


@given(PAIRS, BEGINNINGS, st.integers(1, 5), st.integers(0, 3))
def test_all_that_lies_between_a_position_and_its_target_is_target(
    sizes: list[tuple[int, int]], ends: tuple[int | None, int | None], offset: int, spare: int
) -> None:
    ids = [[3] * prompt + [5] * target for prompt, target in sizes]
    block = max(map(len, ids)) + 2 + spare
    start, has_end = ends[0] is not None, ends[1] is not None
    targets = [[range(prompt, prompt + target + has_end)] for prompt, target in sizes]
    blocks = pack_prompted(ids, range(len(ids)), targets, block, *ends)
    offset = min(offset, block - 1)
    found = blocks.valid(offset)
    for row, (prompt, target) in enumerate(sizes):
        first = start + prompt  # the first token that is a target
        wanted = list(range(first - 1, first + target + has_end - offset))
        assert found[row].nonzero()[:, 0].tolist() == wanted
        assert blocks.token_ids[row, first : first + target].tolist() == [5] * target


def pair(part: Split, prompt: list[int], target: list[int], domain: str = "d") -> TokenizedDocument:
    return TokenizedDocument(domain, "", part, prompt + target, 1, "", prompt=len(prompt))


def plain(part: Split, ids: list[int]) -> TokenizedDocument:
    return TokenizedDocument("plain", "", part, ids, 1, "")


def test_each_pair_has_a_block_and_other_documents_lie_as_before() -> None:
    target = [6, 7, 8]
    documents = [pair(part, [3, 4], target) for part in SPLITS]
    others = [plain(part, [5] * size) for part in SPLITS for size in (4, 3)]
    both = blocks_by_split([*documents, *others], KNOWN, 12, horizon=2)
    alone = blocks_by_split(others, KNOWN, 12, horizon=2)
    for number, part in enumerate(SPLITS):
        assert torch.equal(both[part].token_ids[:-1], alone[part].token_ids)
        moved = alone[part].documents
        moved = torch.where(moved == OUTSIDE, moved, moved + len(documents))
        assert torch.equal(both[part].documents[:-1], moved)
        assert both[part].token_ids[-1].tolist() == [0, 3, 4, 6, 7, 8, 1, 1, 1, 1, 1, 1]
        assert both[part].documents[-1].unique().tolist() == [OUTSIDE, number]


def test_blocks_are_no_longer_than_the_longest_pair_unless_documents_fill_them() -> None:
    words, documents = tiny_run.tokenizer(), [pair("test", [3, 4], [6] * n) for n in (2, 5)]
    assert shortened(32, documents, words) == 2 + 5 + 2  # BOS and end
    assert shortened(8, documents, words) == 8
    assert shortened(32, [*documents, plain("test", [5] * 30)], words) == 32
    assert shortened(10**6, [plain(part, [5] * 30) for part in SPLITS] * 2, words) == 2 * 32


@torch.no_grad()
def test_a_pair_sees_nothing_of_another(tiny_llama: LlamaForCausalLM) -> None:
    def logits(first: list[int]) -> torch.Tensor:
        documents = [pair(part, [3, 4], [6, 7, 8]) for part in SPLITS]
        whole = [pair("train", first, first[::-1]), *documents]
        blocks = blocks_by_split(whole, KNOWN, 24, horizon=2)["train"]
        found: torch.Tensor = tiny_llama(blocks.token_ids).logits
        return found[blocks.documents == 1]

    assert len(logits([5, 9])) == 5  # the last of the prompt, three targets, the end
    assert torch.allclose(logits([5, 9]), logits([7, 8, 2, 2]), atol=1e-6)


def test_targets_shorter_than_the_horizon_say_what_is_needed() -> None:
    documents = [pair(part, [3, 4, 5, 6, 7], [6, 7], "short") for part in SPLITS]
    assert blocks_by_split(documents, KNOWN, 12, horizon=3)  # the end is a target
    message = "short: the train split .* target 4 tokens ahead: its longest target has 2 tokens"
    with pytest.raises(DataError, match=message):
        blocks_by_split(documents, KNOWN, 12, horizon=4)

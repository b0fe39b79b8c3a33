"""Pairs as tokens: what is prompt and what is target, and which pairs are taken."""

import pytest

from probekit.data.blocks import TokenizedDocument
from probekit.data.prompted import pair_tokens
from probekit.data.prompted.pairs import TEMPLATE, Pair, template_of
from probekit.errors import DataError, SettingsError
from support import tiny_run

UNKNOWN = tiny_run.UNKNOWN
# Words of the template before and behind the source.
BEFORE, BEHIND = 7, 2


def words(first: int, count: int) -> str:
    return " ".join(f"w{(first + n) % tiny_run.WORDS}" for n in range(count))


def pairs(*sizes: tuple[int, int]) -> list[Pair]:
    return [Pair(f"line {n}", words(n, a), words(n + 20, b)) for n, (a, b) in enumerate(sizes)]


def tokenized(
    found: list[Pair], block: int = 64, max_tokens: int | None = None
) -> tuple[list[TokenizedDocument], int]:
    return pair_tokens.tokenize("d", found, tiny_run.tokenizer(), block, max_tokens, TEMPLATE)


def test_the_template_is_the_papers() -> None:
    assert TEMPLATE.format(source="Ja.") == (
        "Translate the following German sentence to English: Ja.\n---\nTranslated: "
    )


@pytest.mark.parametrize(
    ("asked", "fields", "template"),
    [
        ("paper", ("en", "fr"), TEMPLATE),
        ("auto", ("translation.de", "translation.en"), TEMPLATE),
        (
            "auto",
            ("en", "DE"),
            "Translate the following English sentence to German: {source}\n---\nTranslated: ",
        ),
        ("auto", ("source", "target"), "{source}\n---\n"),
        ("auto", ("de", "answer"), "{source}\n---\n"),
        ("Q: {source}\\nA: ", ("de", "en"), "Q: {source}\nA: "),
        ("Q: {source} A: {target}", ("de", "en"), "Q: {source} A: "),
    ],
)
def test_the_template_follows_what_is_known_of_the_pairs(
    asked: str, fields: tuple[str, str], template: str
) -> None:
    assert template_of(asked, fields) == template


@pytest.mark.parametrize(
    "asked", ["Q: ", "{source} {source}", "", "{target} {source}", "{source}{target}."]
)
def test_a_template_without_its_source_is_an_error(asked: str) -> None:
    with pytest.raises(SettingsError, match="--pair-template must be auto, paper or a text with"):
        template_of(asked, ("source", "target"))


def test_the_prompt_is_the_template_and_the_source() -> None:
    pair = Pair("line 1", "w3 w4", "w5 w6 w7")
    (found, *_), _ = tokenized([pair, *pairs((1, 1), (2, 2))])
    assert found.ids == [UNKNOWN] * BEFORE + [6, 7] + [UNKNOWN] * BEHIND + [8, 9, 10]
    assert (found.prompt, found.n_targets, found.whole) == (BEFORE + 2 + BEHIND, 3, True)
    assert found.n_bytes == len("w5 w6 w7")


def test_both_sides_decide_the_split() -> None:
    found, _ = tokenized([*pairs(*[(2, 2)] * 30), *pairs(*[(2, 2)] * 30)])
    assert [each.split for each in found[:30]] == [each.split for each in found[30:]]
    others = [Pair("", "w1", "w2"), Pair("", "w1", "w3"), Pair("", "w2", "w2")]
    assert len({pair.document("d").sha256 for pair in others}) == 3


def test_a_pair_that_fills_a_block_is_taken_and_a_longer_one_left_out() -> None:
    sizes = [(1, 10), (1, 11), (1, 12), (1, 13), (1, 30)]
    longest = BEFORE + 1 + BEHIND + 13
    found, n_long = tokenized(pairs(*sizes), block=longest + 2)  # BOS and end
    assert ([each.n_targets for each in found], n_long) == ([10, 11, 12, 13], 1)
    found, n_long = tokenized(pairs(*sizes), block=longest + 1)
    assert ([each.n_targets for each in found], n_long) == ([10, 11, 12], 2)
    with pytest.raises(DataError, match=r"d: none of 5 pairs fits into .* 8 tokens, .* takes 22"):
        tokenized(pairs(*sizes), block=8)


def test_a_budget_leaves_out_whole_pairs_in_order_of_their_hash() -> None:
    found = pairs(*[(1, 10)] * 12)
    size = BEFORE + 1 + BEHIND + 10
    taken, n_long = tokenized(found, max_tokens=5 * size + size // 2)
    in_order = sorted(pair.document("d").sha256 for pair in found)
    assert {each.sha256 for each in taken} == set(in_order[:5])
    assert {len(each.ids) for each in taken} == {size}
    assert n_long == 0

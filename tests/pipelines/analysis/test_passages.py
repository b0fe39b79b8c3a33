"""What readouts say on a few passages, against brute force."""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.data.blocks import Blocks, pack
from probekit.data.targets import Targets
from probekit.errors import DataError, NumericalError
from probekit.pipelines.analysis.inspection import passages
from probekit.pipelines.analysis.inspection.passages import (
    MOST_TOKENS,
    Passage,
    choose,
    first,
    record,
)
from probekit.readout import Cell, Seen
from probekit.shapes import Logits, Mask
from support import tiny_run
from support.separators import ends

HORIZON = 3


def laid_out(lengths: list[int], block: int = 64) -> Blocks:
    """Return documents of these lengths, end tokens not counted, in blocks."""
    draw = torch.Generator().manual_seed(0)
    ids = [torch.randint(3, 60, (n,), generator=draw).tolist() for n in lengths]
    return pack(ids, range(len(ids)), block, ends(tiny_run.BOS, tiny_run.END))


def tokens_of(chosen: list[Passage], domain: str | None = None) -> int:
    return sum(each.length for each in chosen if domain in (None, each.domain))


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=12),
    n_domains=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_passages_lie_in_one_document_and_hold_at_most_160_tokens(
    lengths: list[int], n_domains: int, seed: int
) -> None:
    domains = [f"d{i % n_domains}" for i in range(len(lengths))]
    blocks = laid_out(lengths)
    chosen = choose(blocks, domains, HORIZON, seed)
    assert tokens_of(chosen) <= MOST_TOKENS
    places = [place for each in chosen for place in each.positions]
    assert len(set(places)) == len(places)
    for each in chosen:
        assert {int(blocks.documents[place]) for place in each.positions} == {each.document}
        assert each.domain == domains[each.document]
    assert chosen == choose(blocks, domains, HORIZON, seed)
    counts = {domain: tokens_of(chosen, domain) for domain in {each.domain for each in chosen}}
    assert max(counts.values()) <= MOST_TOKENS // len(counts)


def test_where_text_is_long_every_token_has_all_targets_and_domains_share_equally() -> None:
    blocks = laid_out([300] * 8, block=128)
    chosen = choose(blocks, ["a", "b"] * 4, HORIZON, seed=0)
    assert [(each.domain, each.length) for each in chosen] == [("a", 40)] * 2 + [("b", 40)] * 2
    valid = blocks.valid(HORIZON)
    assert all(bool(valid[place]) for each in chosen for place in each.positions)
    others = [choose(blocks, ["a", "b"] * 4, HORIZON, seed) for seed in range(1, 4)]
    assert any(chosen != other for other in others)


def test_a_passage_keeps_clear_of_the_end_where_its_document_is_a_little_longer() -> None:
    blocks = laid_out([44] * 8, block=46)
    valid = blocks.valid(HORIZON)
    for seed in range(6):
        chosen = choose(blocks, ["a"] * 8, HORIZON, seed)
        assert [each.length for each in chosen] == [40] * 4
        assert all(bool(valid[place]) for each in chosen for place in each.positions)


def test_short_documents_are_shown_to_their_ends_until_the_share_is_used_up() -> None:
    chosen = choose(laid_out([9] * 60), ["a"] * 60, HORIZON, seed=0)
    assert tokens_of(chosen) == MOST_TOKENS
    assert len({each.document for each in chosen}) >= 16


def test_of_many_domains_the_first_eight_are_shown() -> None:
    domains = [f"d{i}" for i in range(12)]
    chosen = choose(laid_out([60] * 12), domains, HORIZON, seed=0)
    assert {each.domain for each in chosen} == set(domains[:8])
    assert tokens_of(chosen) == MOST_TOKENS


def test_documents_of_one_token_cannot_be_inspected() -> None:
    lonely = Blocks(torch.ones(2, 3, dtype=torch.long), torch.tensor([[0, -1, 1], [2, -1, 3]]))
    with pytest.raises(DataError, match="no document has two tokens in one block"):
        choose(lonely, ["a"] * 4, 1, seed=0)


class Given:
    """A readout that says the same everywhere."""

    layers: frozenset[int] = frozenset()

    def __init__(self, logits: list[float]):
        self.logits = torch.tensor(logits)

    def predict(self, _: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        for offset, mask in valid.items():
            yield Cell("given", offset, blind=False), self.logits.repeat(int(mask.sum()), 1)


def recorded(logits: list[float], target: int = 2) -> dict[str, Any]:
    blocks = Blocks(torch.full((1, 4), target), torch.zeros(1, 4, dtype=torch.long))
    targets = Targets("model", {1: blocks.targets(1)}, {1: blocks.valid(1)})
    runs = [([Given(logits)], [Seen(blocks.token_ids, {})])]
    return record([Passage("a", 0, 0, 1, 3)], runs, blocks, targets, tiny_run.tokenizer())


def test_of_equal_logits_the_rank_is_the_first_and_the_lower_ids_come_first() -> None:
    document = recorded([0.0] * 8, target=7)
    reading = document["readings"][0]
    assert reading["rank"] == [[1, 1, None]]
    assert reading["nats"][0][0] == pytest.approx(math.log(8), abs=5e-5)
    assert [document["vocabulary"][i] for i in reading["top"][0][0]] == [
        "<s>", "</s>", "<unk>", " w0", " w1",
    ]  # fmt: skip
    assert reading["probs"][0][0] == [0.125] * 5
    assert reading["blind"] is False
    assert document["target"] == "model"
    assert recorded([0.0, 1.0, 0.0, 1.0])["readings"][0]["rank"][0][0] == 3


def test_a_vocabulary_of_fewer_than_five_tokens_is_shown_whole() -> None:
    reading = recorded([0.0, 2.0, 1.0])["readings"][0]
    assert reading["rank"][0][0] == 2
    assert len(reading["top"][0][0]) == len(reading["probs"][0][0]) == 3


def test_numbers_are_rounded() -> None:
    reading = recorded([0.0, 0.0, 30.0])["readings"][0]
    assert str(reading["nats"][0][0]) == "0.0"
    assert recorded([0.1, 0.2, 0.3])["readings"][0]["probs"][0][0] == [0.3672, 0.3322, 0.3006]


def test_impossible_tokens_are_not_shown_twice() -> None:
    assert first(torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0]]), 4).tolist() == [[3, 1, 0, 2]]


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_loss_that_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(NumericalError, match=r"given, offset 1: the cross-entropy is not finite"):
        recorded([0.0, 0.0, bad])


@pytest.mark.parametrize("n_layers", [0, 1, 8, 9, 12, 80])
def test_layers_are_nine_at_most_evenly_spread(n_layers: int) -> None:
    layers = passages.chosen_layers(range(n_layers + 1))
    assert len(layers) == min(n_layers + 1, 9)
    assert (layers[0], layers[-1]) == (0, n_layers)
    steps = {after - before for before, after in pairwise(layers)}
    assert max(steps, default=0) - min(steps, default=0) <= 1

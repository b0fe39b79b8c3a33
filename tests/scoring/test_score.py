"""The scorer, on readouts whose losses are known."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probekit.data.targets import Targets
from probekit.errors import NumericalError
from probekit.readout import Cell, Seen
from probekit.scoring.score import SUMS, score

VOCABULARY = 8
IDS = torch.tensor([[0, 1, 2, 3, 4, 5], [6, 7, 0, 1, 2, 3], [4, 5, 6, 7, 0, 1]])
DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1], [2, 2, 2, -1, -1, -1]])
EVERYWHERE = torch.ones_like(IDS, dtype=torch.bool)
STREAM = [Seen(IDS[:2], {}), Seen(IDS[2:], {}, first_block=2)]


def text(horizon: int = 2) -> Targets:
    ids, valid = {}, {}
    for k in range(1, horizon + 1):
        ids[k], valid[k] = IDS.roll(-k, dims=1), torch.zeros_like(EVERYWHERE)
        valid[k][:, :-k] = (DOCUMENTS[:, :-k] == DOCUMENTS[:, k:]) & (DOCUMENTS[:, :-k] >= 0)
    return Targets("text", ids, valid)


COUNTING = Cell("counting", 1, layer=3)


@dataclass(frozen=True)
class Counting:
    """Give the token t + k by counting up from token t, with a share of the probability."""

    share: float = 0.5
    cell: Cell = COUNTING
    layers: frozenset[int] = frozenset()

    def predict(self, seen: Seen, valid: Mapping[int, Tensor]) -> Iterator[tuple[Cell, Tensor]]:
        guess = (seen.token_ids + self.cell.offset) % VOCABULARY
        mask = valid[self.cell.offset]
        probs = torch.full((int(mask.sum()), VOCABULARY), (1 - self.share) / (VOCABULARY - 1))
        probs[torch.arange(len(probs)), guess[mask]] = self.share
        yield self.cell, probs.log()


def table(readout: Counting, **positions: Tensor) -> pd.DataFrame:
    return score([readout], STREAM, text(), positions or {"all": EVERYWHERE}, DOCUMENTS)


def test_sums_by_document_are_as_by_hand() -> None:
    found = table(Counting())
    # Document 1 has 2 positions in the first block and 5 in the second.
    assert found["document"].tolist() == [0, 1, 2]
    assert found["n"].tolist() == [2, 7, 2]
    assert found["nats_sum"].tolist() == pytest.approx([n * math.log(2) for n in (2, 7, 2)])
    assert found["top1_sum"].tolist() == [2, 7, 2]
    assert found["top5_sum"].tolist() == [2, 7, 2]
    assert found["positions"].unique().tolist() == ["all"]


def test_a_wrong_guess_costs_what_it_should_and_shares_the_places_behind_it() -> None:
    wrong = Counting(cell=Cell("wrong", 2))
    targets = text()
    shifted = Targets("text", {2: (targets.ids[2] + 1) % VOCABULARY}, {2: targets.valid[2]})
    found = score([wrong], STREAM, shifted, {"all": EVERYWHERE}, DOCUMENTS)
    assert found["n"].tolist() == [1, 5, 1]
    assert found["nats_sum"].tolist() == pytest.approx([n * math.log(14) for n in (1, 5, 1)])
    assert found["top1_sum"].tolist() == [0, 0, 0]
    # Seven tied tokens for the four places that are left.
    assert found["top5_sum"].tolist() == pytest.approx([n * 4 / 7 for n in (1, 5, 1)])


def test_the_cell_goes_into_the_row() -> None:
    for cell in (Cell("mine", 1, 5, blind=False), Cell("mine", 1)):
        found = table(Counting(cell=cell))
        assert found["readout"].unique().tolist() == ["mine"]
        assert found["blind"].unique().tolist() == [cell.blind]
        assert found["offset"].unique().tolist() == [1]
        assert found["layer"].dtype == "Int64"
        assert found["layer"].isna().all() if cell.layer is None else (found["layer"] == 5).all()


@settings(max_examples=15)
@given(st.lists(st.booleans(), min_size=18, max_size=18))
def test_a_subset_of_positions_is_scored_on_its_own_positions(chosen: list[bool]) -> None:
    subset = torch.tensor(chosen).view(3, 6)
    found = table(Counting(), all=EVERYWHERE, marginal=subset)
    part = found[found["positions"] == "marginal"].set_index("document")["n"].to_dict()
    inside = subset & text().valid[1]
    expected = {n: int((inside & (n == DOCUMENTS)).sum()) for n in range(3)}
    assert part == {n: count for n, count in expected.items() if count}
    alone = table(Counting(), marginal=subset)
    together = found[found["positions"] == "marginal"].reset_index(drop=True)
    unknown = {"joint_nats_sum": -1.0}  # NaN would not equal NaN
    assert alone.fillna(unknown).to_dict("list") == together.fillna(unknown).to_dict("list")


def test_batches_and_other_readouts_do_not_change_a_score() -> None:
    readouts = [Counting(0.5), Counting(0.9, Cell("sharper", 2))]
    together = score(readouts, STREAM, text(), {"all": EVERYWHERE}, DOCUMENTS)
    for readout in readouts:
        alone = score([readout], [Seen(IDS, {})], text(), {"all": EVERYWHERE}, DOCUMENTS)
        rows = together[together["readout"] == readout.cell.readout].reset_index(drop=True)
        assert rows["document"].tolist() == alone["document"].tolist()
        for name in ("n", *SUMS):
            assert rows[name].tolist() == pytest.approx(alone[name].tolist(), nan_ok=True)


def test_a_readout_is_asked_for_the_positions_of_the_union_alone() -> None:
    asked = []

    class Asked(Counting):
        def predict(self, seen: Seen, valid: Mapping[int, Tensor]) -> Iterator[tuple[Cell, Tensor]]:
            asked.append(int(valid[1].sum()))
            return super().predict(seen, valid)

    first, third = torch.zeros_like(EVERYWHERE), torch.zeros_like(EVERYWHERE)
    first[0, :2], third[2, 0] = True, True
    found = table(Asked(), first=first, third=third)
    assert asked == [2, 1]
    assert found[["positions", "document", "n"]].values.tolist() == [
        ["first", 0, 2],
        ["third", 2, 1],
    ]


@pytest.mark.parametrize("share", [float("nan"), 0.0])
@pytest.mark.parametrize(("layer", "where"), [(3, " at layer 3"), (None, "")])
def test_a_loss_that_is_not_finite_is_an_error_that_names_the_cell(
    share: float, layer: int | None, where: str
) -> None:
    broken = Counting(share, Cell("broken", 1, layer))
    with pytest.raises(NumericalError, match=f"broken{where}, offset 1: the cross-entropy is not"):
        table(broken)


def test_a_subset_gets_the_losses_of_its_own_positions() -> None:
    targets = text()
    targets.ids[1][0, 0] += 1  # the readout is wrong here, and right at the next position
    sets = {name: torch.zeros_like(EVERYWHERE) for name in ("wrong", "right")}
    sets["wrong"][0, 0] = sets["right"][0, 1] = True
    found = score([Counting()], STREAM, targets, sets, DOCUMENTS).set_index("positions")
    assert found["top1_sum"].to_dict() == {"wrong": 0, "right": 1}
    assert found["nats_sum"]["right"] == pytest.approx(math.log(2))
    assert found["nats_sum"]["wrong"] == pytest.approx(math.log(14))


@dataclass(frozen=True)
class Fixed:
    """Give the same logits at each position of block 0, and at each offset its own."""

    logits: Mapping[int, Tensor]
    name: str = "fixed"
    layers: frozenset[int] = frozenset()

    def predict(self, _: Seen, valid: Mapping[int, Tensor]) -> Iterator[tuple[Cell, Tensor]]:
        for offset, rows in self.logits.items():
            yield Cell(self.name, offset), rows[valid[offset][0]]


FIRST = Seen(IDS[:1], {})


def at_block_0(horizon: int) -> Targets:
    valid = torch.ones(1, 6, dtype=torch.bool)
    ids = torch.zeros(1, 6, dtype=torch.long)
    offsets = range(1, horizon + 1)
    return Targets("text", dict.fromkeys(offsets, ids), dict.fromkeys(offsets, valid))


def test_a_joint_hit_is_a_hit_at_every_offset_from_2_on() -> None:
    hits = {
        1: [0, 1, 0, 1, 0, 1],
        2: [1, 1, 1, 0, 0, 1],
        3: [1, 0, 1, 1, 0, 0],
        4: [1, 1, 0, 1, 1, 1],
    }
    logits = {k: torch.tensor([[2.0 * hit, 1.0] for hit in row]) for k, row in hits.items()}
    found = score([Fixed(logits)], [FIRST], at_block_0(4), {"all": EVERYWHERE[:1]}, DOCUMENTS[:1])
    by_offset = found.groupby("offset")[
        ["nats_sum", "top1_sum", "joint_sum", "joint_nats_sum"]
    ].sum()
    assert by_offset["top1_sum"].tolist() == [3, 4, 3, 5]
    # Offset 1 stands alone: the next token comes from the model itself.
    assert by_offset["joint_sum"].tolist() == [3, 4, 2, 1]
    # Predicted independently, all of them together cost the sum.
    assert by_offset["joint_nats_sum"].tolist()[1:] == pytest.approx(
        by_offset["nats_sum"][1:].cumsum().tolist()
    )


def test_a_sequence_with_a_gap_has_no_joint_hits() -> None:
    logits = {k: torch.zeros(6, 2) for k in (2, 4)}
    found = score([Fixed(logits)], [FIRST], at_block_0(4), {"all": EVERYWHERE[:1]}, DOCUMENTS[:1])
    assert found[found["offset"] == 2]["joint_sum"].notna().all()
    assert found[found["offset"] == 4]["joint_sum"].isna().all()

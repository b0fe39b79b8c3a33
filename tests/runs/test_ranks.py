"""The processes of one run: shares, and where they meet; threads stand in for them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch._C._distributed_c10d import HashStore

from probekit.errors import RunError
from probekit.progress import Journal
from probekit.runs import ranks
from probekit.runs.ranks import Ranks
from probekit.runs.stages import Stages


def together(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """Return what each of so many ranks makes, all at work at once."""
    store = HashStore()
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, [Ranks(number, count, store) for number in range(count)]))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_item_is_one_ranks_and_no_share_is_larger_than_another_by_two(count: int) -> None:
    for shift in range(4):
        shares = [Ranks(number, count).share(range(5), shift) for number in range(count)]
        assert sorted(item for share in shares for item in share) == [0, 1, 2, 3, 4]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Ranks(shift % count, count).share(range(5), shift)[0] == 0


def test_ranks_have_the_first_ones_value_and_the_parts_of_all() -> None:
    def work(here: Ranks) -> tuple[Any, ...]:
        return here.same(lambda: f"of {here.number}"), *(
            here.gather(n + here.number) for n in (0, 5)
        )

    assert together(3, work) == [("of 0", [0, 1, 2], [5, 6, 7])] * 3
    assert work(Ranks()) == ("of 0", [0], [5])


def test_who_waits_for_a_rank_in_vain_says_that_the_same_command_goes_on() -> None:
    class Gone(HashStore):
        def check(self, _: list[str]) -> bool:
            raise RuntimeError("Connection reset by peer")

    with pytest.raises(RunError, match=r"another of the 2 processes .* the same command goes on"):
        Ranks(1, 2, Gone()).same(lambda: 0)


def test_a_launcher_says_who_a_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.number_and_count() == (0, 1)
    assert ranks.last_words()
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert ranks.number_and_count() == (2, 4)
    store = HashStore()
    monkeypatch.setattr(ranks, "joined", lambda: Ranks(2, 4, store))
    assert [ranks.last_words() for _ in range(3)] == [True, False, False]


def shared(here: Ranks, folder: Path) -> tuple[list[int], list[str]]:
    """Return a table of which each rank makes its share, and what the journal said of it."""
    said: list[str] = []
    journal = Journal(folder / "log.jsonl" if here.first else None, said.append)
    stages = Stages.of(folder / "stages", journal, "cause", here)

    def rows() -> pd.DataFrame:
        return pd.DataFrame({"layer": here.share([5, 3, 4])})

    return stages.shared_table("scores", rows, ["layer"])["layer"].tolist(), said


def test_a_stage_is_merged_in_one_order_and_is_there_for_any_number_of_ranks(
    tmp_path: Path,
) -> None:
    for count in (4, 1, 2):  # one of four has no row
        found = together(count, lambda here: shared(here, tmp_path))
        assert [rows for rows, _ in found] == [[3, 4, 5]] * count
        assert sum(bool(said) for _, said in found) == (4 if count == 4 else 0)
    assert len(list(tmp_path.glob("stages/*-scores.parquet"))) == 1


def test_ranks_that_read_other_models_or_texts_are_told_so(tmp_path: Path) -> None:
    def work(here: Ranks) -> str:
        try:
            Stages.of(tmp_path, Journal(None, print), here.number, here)
        except RunError as error:
            return str(error)
        return ""

    first, second = together(2, work)
    assert first == ""
    assert second.startswith("process 1 of this run has another model, text")

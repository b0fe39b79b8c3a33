"""Finished stages are read back, and only where nothing that could change them did."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from probekit import files
from probekit.errors import RunError
from probekit.progress import Journal
from probekit.runs.stages import Stages


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path / "stages", Journal(tmp_path / "log.jsonl", lambda _: None), "a" * 64)


def counted(value: object) -> tuple[Callable[[], object], list[object]]:
    """Return what gives a value, and a list that grows by one each time it does."""
    calls: list[object] = []

    def make() -> object:
        calls.append(value)
        return value

    return make, calls


def test_a_stage_is_made_once_and_read_back(stages: Stages) -> None:
    make, calls = counted({"nats": [1.5, None]})
    assert stages.json("codelength", make) == stages.json("codelength", make) == calls[0]
    assert len(calls) == 1


def test_a_table_keeps_its_types(stages: Stages) -> None:
    table = pd.DataFrame({"layer": pd.array([1, None], dtype="Int64"), "n": [0.1, float("nan")]})
    pd.testing.assert_frame_equal(stages.table("scores", lambda: table), table)


def test_another_fingerprint_is_another_stage(stages: Stages) -> None:
    make, calls = counted(1)
    stages.json("passages", make)
    Stages(stages.folder, stages.journal, "b" * 64).json("passages", make)
    assert len(calls) == 2


def test_work_that_fails_leaves_no_stage(stages: Stages) -> None:
    def fail() -> object:
        raise OSError("no such text")

    with pytest.raises(OSError, match="no such text"):
        stages.json("scores", fail)
    assert not stages.folder.exists()
    with pytest.raises(RunError, match="not a finite number"):
        stages.json("scores", lambda: float("nan"))
    assert list(stages.folder.iterdir()) == []


def test_a_stage_of_an_earlier_process_keeps_its_seconds(stages: Stages) -> None:
    stages.json("passages", lambda: 1)
    seconds = stages.journal.seconds["passages"]
    path = stages.folder.with_name("log.jsonl")
    with path.open("a", encoding="utf-8") as log:
        log.write('{"stage": "pass')  # what a process leaves that is killed as it writes
    later = Stages(stages.folder, Journal(path, print), stages.fingerprint)
    later.json("passages", lambda: 2)
    assert later.journal.seconds == {"passages": pytest.approx(seconds, abs=1e-3)}


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit": flipped,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "nothing": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(b"\0\1"),
    "no digest": lambda path: path.with_name(f"{path.name}.sha256").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_stage_is_said_and_made_again_with_what_came_after(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    said: list[str] = []
    journal = Journal(tmp_path / "log.jsonl", said.append)

    def opened() -> Stages:
        return Stages.of(tmp_path / "stages", journal, "causes")

    numbers: list[int] = []

    def make(number: int) -> int:
        numbers.append(number)
        return number

    def made(stages: Stages) -> None:
        for number, name in enumerate(("first", "second", "third")):
            stages.json(name, partial(make, number))

    made(opened())
    damage(opened().path("second.json"))
    said.clear()
    again = opened()
    assert said == ["  damaged or half written, made again with all after it: second.json"]
    numbers.clear()
    made(again)
    assert numbers == [1, 2]
    assert [again.json(name, int) for name in ("first", "second", "third")] == [0, 1, 2]
    said.clear()
    opened()
    assert said == []


def test_a_file_that_was_being_replaced_is_either_of_the_two(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_checked(path, lambda temporary: temporary.write_text("old"))
    files.write_checked(path, lambda temporary: temporary.write_text("new"))
    assert files.is_undamaged(path)
    path.write_text("old")
    assert files.is_undamaged(path)
    path.write_text("odd")
    assert not files.is_undamaged(path)

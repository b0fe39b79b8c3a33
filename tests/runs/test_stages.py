"""Finished stages are read back, and only where nothing that could change them did."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

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

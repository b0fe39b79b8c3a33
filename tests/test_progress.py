"""Progress: the log, and bars that are not there."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import PreTrainedModel

from probekit.activations.residual_stream import stream
from probekit.errors import RunError
from probekit.models.anatomy import find_anatomy
from probekit.progress import Journal, bar, heard
from probekit.runs.streams import Tracked


def test_a_stage_is_logged_and_said_when_it_ends(tmp_path: Path) -> None:
    said: list[str] = []
    journal = Journal(tmp_path / "log.jsonl", said.append)
    with journal.stage("probes"):
        assert said == []
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(event["stage"], event["event"]) for event in events] == [
        ("probes", "start"),
        ("probes", "end"),
    ]
    assert len(said) == 1
    assert set(journal.seconds) == {"probes"}


def test_a_stage_inside_another_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 2.0, 5.0, 6.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    journal = Journal(tmp_path / "log.jsonl", lambda _: None)
    with journal.stage("train"), journal.stage("probes"):
        pass
    assert journal.seconds == {"probes": 3.0, "train": 3.0}


def test_a_stage_inside_another_that_an_earlier_process_finished_takes_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    ended = {"stage": "probes", "event": "end", "seconds": 100.0}
    damaged = [{**ended, "seconds": seconds} for seconds in (-1.0, 1e300, float("nan"), "x", None)]
    lines = [ended, *damaged, []]
    log.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b"\xff{")
    now = iter([0.0, 2.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    journal = Journal(log, lambda _: None)
    with journal.stage("train"):
        journal.recall("probes")
    assert journal.seconds == {"probes": 100.0, "train": 2.0}


def test_a_log_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path, print)
    with pytest.raises(RunError, match=r"cannot be written: Is a directory"):
        journal.note("probes", "start")


def test_a_stage_that_fails_has_no_end(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    journal = Journal(log, print)
    with pytest.raises(KeyError), journal.stage("probes"):
        raise KeyError
    assert journal.seconds == {}
    assert '"end"' not in log.read_text()


def test_a_tracked_stream_is_the_stream_each_time(
    tiny_llama: PreTrainedModel, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = torch.arange(24).view(3, 8)
    tracked = Tracked(stream(tiny_llama, find_anatomy(tiny_llama), ids, (), batch_size=2), "label")
    for _ in range(2):
        assert [seen.first_block for seen in tracked] == [0, 2]
    assert capfd.readouterr().err == ""


@pytest.fixture
def in_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))


def test_nothing_is_said_outside_of_ipython_unless_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []
    heard(None)("quiet")
    heard(said.append)("asked")
    assert list(bar([1, 2], "label")) == [1, 2]
    assert capsys.readouterr() == ("", "")
    assert said == ["asked"]


@pytest.mark.usefixtures("in_notebook")
def test_the_passes_of_a_stage_share_a_line_that_counts_them_and_the_stages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    journal = Journal(None, print, expected=2)
    with journal.stage("probes"):
        for _ in bar(["outer"], "train"):
            assert list(bar([1, 2], "inside")) == [1, 2]
        list(bar([1, 2], "validation"))
    with journal.stage("scores"):
        list(bar([1], "test"))
    out, err = capsys.readouterr()
    assert [line.split(" s ")[1] for line in out.splitlines()] == ["(1 of 2)", "(2 of 2)"]
    for shown in ("(1 of 2) probes, pass 1: train", "(1 of 2) probes, pass 2: validation"):
        assert shown in err
    assert "(2 of 2) scores, pass 1: test" in err
    assert "inside" not in err


@pytest.mark.usefixtures("in_notebook")
def test_in_ipython_lines_are_printed_and_passes_have_bars(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard(None)("a line")
    assert list(bar([1, 2], "label")) == [1, 2]
    out, err = capsys.readouterr()
    assert out == "a line\n"
    assert "label:" in err
    assert list(bar([1], "silent", silent=True)) == [1]
    assert "silent" not in capsys.readouterr().err

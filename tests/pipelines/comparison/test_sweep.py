"""A sweep over models, and the commands over several runs."""

import multiprocessing
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from torch._C._distributed_c10d import HashStore

from probekit.errors import RunError, SettingsError
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.comparison import sweep
from probekit.pipelines.comparison.sweep import PlannedRun
from probekit.runs.ranks import Ranks
from probekit.settings import Settings
from support.commands import call


def renamed(run: Run, folder: Path) -> Path:
    """Return a copy of a run folder."""
    return Path(shutil.copytree(run.folder, folder))


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch, finished_run: Run) -> list[str]:
    """Copy finished runs instead of analyzing in other processes; return what was asked for."""
    asked = []

    def analyze(run: PlannedRun, say: Any, **_: bool) -> None:
        asked.append(run.settings.model)
        if run.settings.model == "bad":
            raise RunError("bad is no model")
        say(f"analyzed {run.settings.model}")
        if not run.folder.exists():
            renamed(finished_run, run.folder)

    monkeypatch.setattr(sweep, "_in_a_process", analyze)
    return asked


def test_each_model_has_a_folder_of_its_own(tmp_path: Path) -> None:
    planned = sweep.plan_runs(["a/one", "b/one", "two"], {"offsets": 2}, tmp_path)
    assert [run.folder.name for run in planned] == ["a--one", "b--one", "two"]
    assert [run.settings.model for run in planned] == ["a/one", "b/one", "two"]
    assert {run.settings.offsets for run in planned} == {2}
    by_models = [
        sweep.plan_runs(names, {})[0].folder.parent for names in (["a"], ["a", "b"], ["a"])
    ]
    assert by_models[0] == by_models[2] != by_models[1]
    assert by_models[0].name.startswith("sweep-")


@pytest.mark.parametrize(
    ("models", "message"), [([], "needs models"), (["a", "b", "a"], "got a twice")]
)
def test_a_sweep_of_nothing_or_of_one_twice_is_refused(models: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        sweep.plan_runs(models, {})


def test_a_model_that_fails_takes_no_other_with_it(within: list[str], tmp_path: Path) -> None:
    lines: list[str] = []
    planned = sweep.plan_runs(["one", "bad", "two"], {}, tmp_path)
    swept = sweep.sweep(planned, say=lines.append)
    assert within == ["one", "bad", "two"]
    assert swept.failed == {"bad": "bad is no model"}
    assert [run.folder for run in swept.runs] == [tmp_path / "one", tmp_path / "two"]
    assert swept.page == tmp_path / "compare.html"
    assert swept.page.is_file()
    assert "analyzed two" in lines
    assert f"two → {tmp_path / 'two'} (model 3 of 3)" in lines


def test_of_several_processes_each_takes_whole_models_and_the_first_compares(
    within: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HashStore()
    of_first = pickle.dumps({"bad": "is no model"})
    store.set("turn 0 of 0", of_first)  # type: ignore[arg-type]  # it takes bytes too
    monkeypatch.setattr(sweep, "joined", lambda: Ranks(1, 2, store))
    swept = sweep.sweep(sweep.plan_runs(["bad", "one"], {}, tmp_path))
    assert within == ["one"]
    assert swept.failed == {"bad": "is no model"}
    assert ([run.folder for run in swept.runs], swept.page) == ([tmp_path / "one"], None)


def test_one_finished_run_is_not_compared(within: list[str], tmp_path: Path) -> None:
    swept = sweep.sweep(sweep.plan_runs(["one", "bad"], {}, tmp_path))
    assert (len(swept.runs), swept.comparison, swept.page) == (1, None, None)
    assert len(within) == 2
    assert not (tmp_path / "compare.html").exists()


@pytest.mark.slow
def test_a_process_hands_on_its_lines_and_does_nothing_again(
    asked: dict[str, Any], finished_run: Run, tmp_path: Path
) -> None:
    folder = renamed(finished_run, tmp_path / "done")
    before = (folder / "results.json").stat().st_mtime_ns
    lines: list[str] = []
    sweep._in_a_process(PlannedRun(Settings.from_mapping(asked), folder), lines.append)
    assert (folder / "results.json").stat().st_mtime_ns == before
    assert lines[0].startswith("Model: ")
    assert lines[-1] == f"{folder} holds this run already"


def test_a_stated_problem_goes_through_the_pipe(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    settings = {"model": str(tmp_path / "nothing"), "device": "cpu"}
    sweep._analyze(theirs, settings, tmp_path, False, False)
    kind, message = ours.recv()
    assert kind == "problem"
    assert "nothing" in message


def test_sweep_prints_numbers_and_the_page_last(
    within: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = ["--models", "one,two,bad", "--offsets", "2", "--output", str(tmp_path)]
    assert call(monkeypatch, "sweep", *given) == 1
    printed = capsys.readouterr()
    lines = printed.out.strip().splitlines()
    assert lines[-1] == f"Comparison: {tmp_path / 'compare.html'}"
    assert any(line.split()[:2] == ["run", "parameters"] for line in lines)
    assert printed.err.strip() == "probekit: bad: bad is no model"
    assert within == ["one", "two", "bad"]


def test_an_interrupted_sweep_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "_in_a_process", interrupted)
    given = ["--models", "one,two", "--output", str(tmp_path)]
    assert call(monkeypatch, "sweep", *given) == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("given", [[], ["--family", "tiny", "--models", "a,b"]])
def test_a_sweep_is_over_a_family_or_models(
    monkeypatch: pytest.MonkeyPatch, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "sweep", *given) == 2
    assert "either --family or --models" in capsys.readouterr().err


def test_a_dry_run_names_each_model_and_writes_nothing(
    within: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def plan(run: PlannedRun, say: Any, *, dry_run: bool) -> None:
        assert dry_run
        say(f"plan of {run.settings.model}")

    monkeypatch.setattr(sweep, "_in_a_process", plan)
    given = ["--family", "tiny", "--output", str(tmp_path / "out"), "--dry-run"]
    assert call(monkeypatch, "sweep", *given) == 0
    printed = capsys.readouterr().out
    assert all(f"plan of tiny-{size}" in printed for size in "sml")
    assert list(tmp_path.iterdir()) == []
    assert within == []


def test_compare_writes_its_page_beside_the_runs(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("one", "two"):
        renamed(finished_run, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "compare", "one", "two") == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == "Comparison: compare.html"
    assert (tmp_path / "compare.html").is_file()
    assert call(monkeypatch, "compare", "one", "one") == 1
    assert "given twice" in capsys.readouterr().err


def test_the_table_has_a_dash_where_there_is_no_number() -> None:
    from probekit.cli.compare import table

    run = {"name": "a", "model": {"n_parameters": 2_000_000}}
    rows = [{"run": "a", "quantity": "next_token_top1", "offset": 1, "value": 0.25}]
    head, line = table({"metric": "nats", "runs": [run], "headlines": rows})
    assert "bits/byte" not in head
    assert line.split() == ["a", "2.0M", "25.0", "-", "-", "-", "-"]

"""The run folder: written whole or not at all, and read again."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from probekit import files
from probekit.errors import RunError
from probekit.pipelines.analysis.finished import Run, load
from probekit.runs import folder as results
from probekit.settings import Settings


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        files.write(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/a.txt cannot be written"):
        files.write_text(tmp_path / "file" / "a.txt", "new")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_no_result(value: float) -> None:
    with pytest.raises(RunError, match="a result is not a finite number"):
        files.as_json({"nats": value})


def opened(folder: Path, settings: Settings, overwrite: bool) -> bool:
    """Return whether the run is finished; begin it if it is not."""
    finished = results.is_finished(folder, settings, overwrite)
    if not finished:
        results.start(folder, settings)
    return finished


def begun(folder: Path, settings: Settings) -> None:
    opened(folder, settings, overwrite=False)
    (folder / "stages").mkdir()
    (folder / "stages" / f"{'0' * 16}-probes.safetensors").write_text("")


def test_a_folder_with_another_run_names_what_differs(tmp_path: Path) -> None:
    begun(tmp_path, Settings(seed=1))
    with pytest.raises(RunError, match=r"other settings: offsets, seed\. .*--overwrite"):
        opened(tmp_path, Settings(offsets=2), overwrite=False)
    assert not opened(tmp_path, Settings(seed=1), overwrite=False)


def test_overwrite_replaces_another_run(tmp_path: Path) -> None:
    begun(tmp_path, Settings(seed=1))
    for name in ("results.json", "probes.safetensors", "marginal-positions.parquet"):
        (tmp_path / name).write_text("{}")
    assert not opened(tmp_path, Settings(offsets=2), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_a_finished_run_stays_until_the_new_one_begins(tmp_path: Path) -> None:
    begun(tmp_path, Settings(seed=1))
    (tmp_path / "results.json").write_text("{}")
    assert not results.is_finished(tmp_path, Settings(seed=2), overwrite=True)
    assert (tmp_path / "results.json").exists()
    assert Run(tmp_path, {}).settings == Settings(seed=1)


def test_a_run_that_never_began_is_in_nobody_s_way(tmp_path: Path) -> None:
    opened(tmp_path, Settings(seed=1), overwrite=False)
    assert not opened(tmp_path, Settings(seed=2), overwrite=False)
    assert Run(tmp_path, {}).settings == Settings(seed=2)


def test_a_run_is_read_as_it_was_written(finished_run: Run) -> None:
    again = load(finished_run.folder)
    assert again.results == finished_run.results
    assert len(again.scores) == len(again.results["scores"])
    assert again.scores["layer"].isna().any()
    assert again.settings.offsets == 2
    assert list(again.specialization["offset"]) == [1, 2]


def test_scores_follow_from_the_sums_by_document(finished_run: Run) -> None:
    sums = finished_run.documents
    key = ["readout", "layer", "offset", "split", "positions", "seed"]
    total = sums.groupby(key, dropna=False)[["n", "nats_sum"]].sum()
    expected = (total["nats_sum"] / total["n"]).sort_index()
    scored = finished_run.scores.set_index(key)["nats"].sort_index()
    pd.testing.assert_series_equal(
        scored.reset_index(drop=True), expected.reset_index(drop=True), check_names=False
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no finished run"),
        ("{", "is not JSON"),
        (json.dumps({"schema": "probekit.results/0"}), r"is not of schema probekit.results/4"),
        ("[]", r"is not of schema probekit.results/4"),
    ],
)
def test_a_folder_that_holds_no_run_says_why(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(RunError, match=message):
        load(tmp_path)


def test_a_run_may_be_moved(finished_run: Run, tmp_path: Path) -> None:
    moved = load(shutil.copytree(finished_run.folder, tmp_path / "moved"))
    assert moved.report.is_file()
    assert len(moved.documents) == len(finished_run.documents)


@pytest.mark.parametrize(
    ("model", "name"), [(".", "here"), ("..", "above"), ("../here", "here"), ("a/b", "b")]
)
def test_a_run_is_named_after_the_folder_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, name: str
) -> None:
    (tmp_path / "above" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "above" / "here")
    assert results.default_folder(Settings(model=model), suffix="-x") == Path("runs") / f"{name}-x"


def test_overwriting_an_unfinished_run_with_the_same_settings_goes_on_with_it(
    tmp_path: Path,
) -> None:
    settings = Settings(seed=3)
    opened(tmp_path, settings, overwrite=True)
    stage = tmp_path / "stages" / f"{'0' * 16}-probes"
    stage.parent.mkdir()
    stage.touch()
    assert not opened(tmp_path, settings, overwrite=True)
    assert stage.exists()
    opened(tmp_path, Settings(seed=4), overwrite=True)
    assert not stage.exists()


@pytest.mark.parametrize(
    ("fingerprint", "sha256", "changed"),
    [("b", "t", "the model"), ("a", "u", "the text"), ("b", "u", "the model and the text")],
)
def test_a_run_of_another_model_or_text_is_not_passed_off(
    tmp_path: Path, fingerprint: str, sha256: str, changed: str
) -> None:
    before = {"model": {"fingerprint": "a"}, "text": [{"sha256": "t"}]}
    results.require_unchanged(tmp_path, before, "a", [{"sha256": "t"}])
    with pytest.raises(RunError, match=f"but {changed} changed since"):
        results.require_unchanged(tmp_path, before, fingerprint, [{"sha256": sha256}])


def test_without_an_output_runs_lie_under_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    first = results.default_folder(Settings(model="mini"))
    assert first == Path("runs/mini")
    begun(first, Settings(model="mini"))
    assert results.default_folder(Settings(model="mini")) == first
    names = {results.default_folder(Settings(model="mini", seed=seed)).name for seed in (1, 2)}
    assert len(names) == 2
    assert all(re.fullmatch(r"mini-[0-9a-f]{6}", name) for name in names)

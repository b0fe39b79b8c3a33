"""Nothing that a run did not write is removed or replaced."""

from pathlib import Path

import pytest

import probekit
from probekit import files
from probekit.errors import RunError
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.runs import folder as results
from probekit.runs.own_files import remove_stages, require_own
from probekit.settings import RunSettings, Settings

STAGE = f"{'0' * 16}-linear-0.safetensors"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["results.json", "report.html", "thesis.tex", "stages/act1.txt"])
def test_a_folder_with_files_of_its_owner_is_refused(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(RunError, match=rf"holds files and no run \({name.partition('/')[0]};"):
        probekit.analyze("tiny-s", max_tokens=2000, output=tmp_path, overwrite=overwrite)
    assert path.read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RunError, match="is a file: name a folder"):
        require_own(tmp_path / "out")


def test_what_a_stopped_start_leaves_is_in_nobody_s_way(tmp_path: Path) -> None:
    require_own(tmp_path / "new")
    for name in ("log.jsonl", "lock", ".gitignore"):
        (tmp_path / name).write_text("")
    require_own(tmp_path)


def test_replacing_a_run_leaves_what_lies_beside_it(tmp_path: Path) -> None:
    results.start(tmp_path, Settings())
    (tmp_path / "stages").mkdir()
    own = ["results.json", "probes-mlp.safetensors", f"stages/{STAGE}", "stages/.unfinished-x"]
    others = ["notes.txt", "model.safetensors", "stages/act1.txt"]
    for name in own + others:
        (tmp_path / name).write_text("")
    results.start(tmp_path, Settings(seed=1))
    assert [name for name in own + others if (tmp_path / name).exists()] == others


def test_a_file_of_a_write_that_was_killed_goes_with_the_stages(tmp_path: Path) -> None:
    def killed(temporary: Path) -> None:
        (tmp_path / "stages" / "left").hardlink_to(temporary)
        assert temporary.name.startswith(files.UNFINISHED)

    files.write(tmp_path / "stages" / STAGE, killed)
    (tmp_path / "stages" / "left").rename(tmp_path / "stages" / f"{files.UNFINISHED}left")
    remove_stages(tmp_path)
    assert not (tmp_path / "stages").exists()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (HeadSettings(), "holds settings of `probekit heads`, not of `probekit analyze`: name"),
        ("name = 'x'\n", "does not hold settings of this version .* unknown setting 'name'"),
    ],
)
def test_settings_of_another_kind_name_their_file(
    tmp_path: Path, held: RunSettings | str, message: str
) -> None:
    text = held if isinstance(held, str) else held.as_toml()
    (tmp_path / "run.toml").write_text(text)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / STAGE).write_text("")
    with pytest.raises(RunError, match=rf"run\.toml {message}"):
        results.is_finished(tmp_path, Settings(), overwrite=False)

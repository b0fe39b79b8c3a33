"""A run on the Hub: what goes up, and that it comes down as it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import probekit
from probekit import digests
from probekit.errors import RunError
from probekit.heads import files as heads_files
from probekit.heads.heads import build
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.drafting.candidates import candidates
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.pipelines.publishing import push
from probekit.pipelines.publishing.push import Upload
from probekit.runs.setup import load_model, prepare
from support.commands import call
from support.fake_hub import Hub, running
from support.head_runs import write_study

NAME = "someone/a-run"
# Of huggingface_hub, in the way it calls httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running() as found:
        settings = {
            "ENDPOINT": found.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": found.address
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", found.token)
        yield found


@pytest.fixture(scope="module")
def upload(finished_run: Run) -> Upload:
    return push.gather(finished_run.folder, NAME)


def test_a_run_goes_up_and_comes_down_as_it_was(
    hub: Hub, finished_run: Run, upload: Upload, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(push, "gather", lambda *_: upload)
    given = ["push", str(finished_run.folder), NAME, "--private"]
    assert call(monkeypatch, *given, "--dry-run") == 0
    assert hub.tokens == []
    plan = capsys.readouterr().out
    assert call(monkeypatch, *given) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(plan)
    assert f"Repository: {hub.address}/{NAME}" in printed.out
    assert hub.token not in printed.out + printed.err
    assert hub.private == {NAME}
    lines = (finished_run.folder / "run.sha256").read_text().splitlines()
    named = {line.split()[1] for line in lines}
    assert set(hub.files[NAME]) == named | {"run.sha256", "report.html", "README.md", "figure.png"}
    card = hub.files[NAME]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: probekit\ntags:\n- probekit\n")
    assert "license:" not in card.split("---")[1]

    fetched = probekit.load(f"hub:{NAME}")
    assert fetched.results == finished_run.results
    assert fetched.documents.equals(finished_run.documents)
    loaded = load_model(finished_run.settings)
    assert probekit.load_probes(f"hub:{NAME}@main", loaded).probes.keys()
    with pytest.raises(RunError, match=r"hub:someone/none cannot be fetched: .*hub:owner/name@rev"):
        probekit.load("hub:someone/none")


@pytest.mark.usefixtures("hub")
def test_heads_of_a_study_draft_from_the_hub(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {**asked, "offsets": 2, "drafters": ("heads",), "heads": f"hub:{NAME}"}
    settings = DraftSettings.from_mapping(chosen)
    setup = prepare(load_model(settings), settings, (2,))
    study = tmp_path / "study"
    study.mkdir()
    heads = build("medusa", setup.anatomy, (2,))
    heads_files.save(heads, study / "heads-heads-only.safetensors", setup.fingerprint)
    write_study(study, {"heads-only": "heads-heads-only.safetensors"})
    digests.write(study, ["heads.json", "heads-heads-only.safetensors"], {})
    monkeypatch.setattr(push, "lead_figure", lambda _: None)
    push.push(push.gather(study, NAME))
    (found,) = candidates(settings, setup, None, None)
    assert (found.name, found.n_parameters) == ("head:heads-only", heads.n_values)


@pytest.mark.usefixtures("hub")
def test_passages_stay_here_where_they_are_to(
    finished_run: Run, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "lead_figure", lambda _: None)
    less = push.gather(finished_run.folder, NAME, with_passages=False)
    assert set(upload.files) - set(less.files) == {"passages.json", "figure.png"}
    told = ["--without-passages" in " ".join(each.lines) for each in (upload, less)]
    assert told == [True, False]
    digests, page, whole = (
        less.files["run.sha256"],
        less.files["report.html"],
        upload.files["report.html"],
    )
    assert isinstance(digests, bytes)
    assert isinstance(page, bytes)
    assert isinstance(whole, bytes)
    assert b"passages" not in digests
    assert len(page) < len(whole)
    push.push(less)
    assert probekit.load(f"hub:{NAME}").passages is None


@pytest.mark.usefixtures("hub")
def test_a_run_from_the_hub_does_not_say_what_code_runs(finished_run: Run, upload: Upload) -> None:
    text = (finished_run.folder / "run.toml").read_text()
    trusting = text.replace("trust_remote_code = false", "trust_remote_code = true")
    assert trusting != text
    files = {**upload.files, "run.toml": trusting.encode()}
    del files["run.sha256"]
    push.push(Upload(NAME, files, ()))
    assert not probekit.load(f"hub:{NAME}").settings.trust_remote_code


@pytest.mark.parametrize("token", ["hf_another_one_that_may_not", ""])
@pytest.mark.usefixtures("hub")
def test_who_may_not_write_is_told_the_way(
    upload: Upload, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(RunError, match=f"nothing was put into {NAME}: .*hf auth login") as raised:
        push.push(upload)
    assert "hf_another" not in str(raised.value)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no finished run with a run\.sha256"):
        push.gather(tmp_path, NAME)

"""No secret of the environment stands in a file that is written or a line that is printed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from probekit.cli import main
from probekit.privacy import without_secrets
from support.commands import flags

SECRETS = {
    "HF_TOKEN": "hf_ofaperson0123456789",
    "HUGGING_FACE_HUB_TOKEN": "hf_ofanother0123456789",
    "AWS_SECRET_ACCESS_KEY": "aws/not+to/be=seen",
    "WANDB_API_KEY": "0123456789abcdef",
    "DATABASE_PASSWORD": "correct horse",
}
# As it names the address of a proxy, or of a mirror of the Hub.
ADDRESS = "https://me:my-word@example.com"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", ADDRESS)


def ends(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> int:
    """Run a command in a folder, and require that nothing it says or writes is secret."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["probekit", *words])
    code = 0
    try:
        main.main()
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    printed = capsys.readouterr()
    said = [printed.out, printed.err]
    said += [f"{path.read_bytes()!r}" for path in folder.rglob("*") if path.is_file()]
    for secret in (*SECRETS.values(), "my-word"):
        assert not any(secret in each for each in said), secret
    return code


@pytest.mark.slow
def test_an_analysis_writes_no_secret_and_nothing_outside_its_folder(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "here").mkdir()
    [text] = asked["text"]
    hostile = {**asked, "text": (f"../../escaped={text}",), "controls": "none", "marginal": "off"}
    command = ("analyze", *flags(hostile), "--output", "run", "--figures")
    assert ends(monkeypatch, tmp_path / "here", capsys, *command) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["run"]
    assert "escaped" in (tmp_path / "here" / "run" / "report.html").read_text()
    written = ("doctor", asked["model"], "--text", text, "--bundle", "b.txt", "--run", "run")
    assert ends(monkeypatch, tmp_path / "here", capsys, *written) in (0, 1)
    said = (tmp_path / "here" / "b.txt").read_text()
    for heading in ("Versions", "Machine", "Environment", "Log of the run", "Checks", "Plan"):
        assert f"## {heading}\n" in said
    assert "torch " in said
    assert str(Path.home()) not in said


def test_a_repository_out_of_reach_says_no_secret_and_its_bundle_says_what_was_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("doctor", "no-one/no-model", "--bundle", "b.txt", "--debug")
    assert ends(monkeypatch, tmp_path, capsys, *command) == 1
    assert "UnreachableError" in (tmp_path / "b.txt").read_text()


def test_what_looks_secret_is_hidden_wherever_it_stands() -> None:
    text = "\n".join([*SECRETS.values(), ADDRESS, "hf_ofathirdone12", "ghp_abcdefghij", "hf_hub"])
    shown = without_secrets(text).splitlines()
    assert shown == [*["[hidden]"] * 5, "https://[hidden]@example.com", *["[hidden]"] * 2, "hf_hub"]

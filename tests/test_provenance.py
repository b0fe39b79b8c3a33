"""Digests, versions, the command."""

import ast
import platform
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from probekit import provenance
from support import tiny_run
from support.paths import ROOT


def test_a_digest_of_texts_knows_their_borders_and_order() -> None:
    digests = {provenance.digest_texts(texts) for texts in (["ab"], ["a", "b"], ["b", "a"], [])}
    assert len(digests) == 4


def test_a_digest_changes_with_any_value() -> None:
    assert provenance.digest({"a": 1}) != provenance.digest({"a": 2})


def test_a_tokenizer_is_what_makes_text_tokens() -> None:
    one, other, longer = tiny_run.tokenizer(), tiny_run.tokenizer(), tiny_run.tokenizer()
    other(["w1 w2"], truncation=True, max_length=1)  # which its backend remembers
    longer.add_tokens(["w1000"])
    assert provenance.tokenizer_digest(one) == provenance.tokenizer_digest(other)
    assert provenance.tokenizer_digest(one) != provenance.tokenizer_digest(longer)
    other.eos_token = "<unk>"
    assert provenance.tokenizer_digest(one) != provenance.tokenizer_digest(other)


def test_versions_are_those_at_work() -> None:
    found = provenance.versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert "not installed" not in found.values()


@pytest.mark.parametrize(
    ("program", "shown"),
    [("/bin/probekit", "probekit"), ("/a/probekit/__main__.py", "python -m probekit")],
)
def test_a_command_is_shown_as_it_was_typed(
    monkeypatch: pytest.MonkeyPatch, program: str, shown: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "analyze", "--text", "my file.txt"])
    assert provenance.command("") == f"{shown} analyze --text 'my file.txt'"


@pytest.mark.parametrize(
    "program",
    [
        "",
        "-c",
        "/bin/pytest",
        "/a/ipykernel_launcher.py",
        "/a/pytest/__main__.py",
        "/home/me/run.py",
    ],
)
def test_the_command_line_of_another_program_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "-f", "/home/me/kernel.json"])
    assert provenance.command("as here") == "as here"


def test_every_package_that_is_imported_is_declared() -> None:
    root = ROOT
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["heads"] + extras["checkpoints"]
    declared = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in wanted}
    sources = (root / "probekit").rglob("*.py")
    nodes = [n for path in sources for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    imported = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"probekit"}
    # `datasets` is wanted for Hub data sets alone, and asked for there.
    imported = {"scikit_learn" if name == "sklearn" else name for name in imported}
    assert imported - {"datasets"} <= declared


def test_a_machine_is_named_by_its_kind() -> None:
    assert provenance.machine(torch.device("cpu")).startswith("cpu (")


def test_the_commit_of_a_checkout_or_of_its_worktree_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "probekit" / "provenance.py"))
    assert provenance.commit() == {}
    git, tree = tmp_path / "main" / ".git", tmp_path / "main" / ".git" / "worktrees" / "a"
    (git / "refs" / "heads").mkdir(parents=True)
    tree.mkdir(parents=True)
    (git / "refs" / "heads" / "b").write_text(f"{'1' * 40}\n")
    (tree / "HEAD").write_text("ref: refs/heads/b\n")
    (tree / "commondir").write_text("../..\n")
    (tmp_path / ".git").write_text(f"gitdir: {tree}\n")
    assert provenance.commit() == {"probekit-commit": "1" * 40}
    (tree / "HEAD").write_text(f"{'2' * 40}\n")
    assert provenance.commit() == {"probekit-commit": "2" * 40}

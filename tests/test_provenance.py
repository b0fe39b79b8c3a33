"""Digests, versions, the command."""

import platform
import sys

import pytest
import torch

from probekit import provenance


def test_a_digest_of_texts_knows_their_borders_and_order() -> None:
    digests = {provenance.digest_texts(texts) for texts in (["ab"], ["a", "b"], ["b", "a"], [])}
    assert len(digests) == 4


def test_a_digest_changes_with_any_value() -> None:
    assert provenance.digest({"a": 1}) != provenance.digest({"a": 2})


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
    assert provenance.command() == f"{shown} analyze --text 'my file.txt'"


def test_a_machine_is_named_by_its_kind() -> None:
    assert provenance.machine(torch.device("cpu")).startswith("cpu (")

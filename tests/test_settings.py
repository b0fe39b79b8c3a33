"""Settings: one record behind flags, files and keyword arguments."""

import dataclasses
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from probekit.errors import SettingsError
from probekit.settings import Settings, from_file, from_mapping

NAMES = [field.name for field in dataclasses.fields(Settings)]
OTHER_FLAGS = {"output", "overwrite", "config", "dry_run", "figures", "debug"}


def test_fields_are_flags_and_keys_of_run_toml() -> None:
    from probekit.cli.main import app

    commands: Any = get_command(app)
    flags = {parameter.name for parameter in commands.commands["analyze"].params}
    assert flags - OTHER_FLAGS == set(NAMES)
    whole = Settings(revision="main", limit=5, max_tokens=100)
    assert list(tomllib.loads(whole.as_toml())) == NAMES


@given(
    st.fixed_dictionaries(
        {
            "model": st.text(st.characters(codec="utf-8")),
            "revision": st.none() | st.just("main"),
            "batch_size": st.just("auto") | st.integers(1, 9),
            "text": st.lists(st.text(st.characters(codec="utf-8"))).map(tuple),
            "layers": st.lists(st.integers(0, 9)).map(tuple),
            "nucleus": st.floats(0, 1, exclude_min=True),
            "seed": st.integers(0, 2**63 - 1),
        }
    )
)
def test_settings_come_back_from_run_toml(given_: dict[str, Any]) -> None:
    settings = Settings(**given_)
    assert from_mapping(tomllib.loads(settings.as_toml())) == settings


def test_differing_fields_are_named() -> None:
    assert Settings(offsets=2, seed=1).differing(Settings(seed=2)) == ["offsets", "seed"]


def test_an_unknown_key_gets_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'ofsets'. Did you mean 'offsets'"):
        from_mapping({"ofsets": 3})
    with pytest.raises(SettingsError, match=r"unknown setting 'zzz'. The settings are model"):
        from_mapping({"zzz": 3})


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"offsets": 0}, "--offsets must be at least 1, got 0"),
        ({"offsets": 30, "block": 31}, r"--offsets must be in 1..29 for blocks of 31 tokens"),
        ({"block": 2}, "--block must be at least 3, got 2"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"marginal": "sample", "max_branches": 1}, "--max-branches must be at least 2 to sample"),
        ({"nucleus": 0.0}, r"--nucleus must be in \(0, 1\], got 0.0"),
        ({"nucleus": float("nan")}, "--nucleus must be in"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
        ({"seed": 2**63}, "--seed must be at most"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        from_mapping(given_)


KINDS: dict[str, tuple[Any, str]] = {
    "batch_size": ("many", "--batch-size must be int or one of auto, got 'many'"),
    "offsets": (True, "--offsets must be int, got True"),
    "layers": (["a"], "--layers must be a list, each int, got ('a',)"),
    "text": ("a.txt", "--text must be a list, each str, got 'a.txt'"),
    "limit": ("a", "--limit must be int or unset, got 'a'"),
    "marginal": ("none", "--marginal must be one of nucleus, top, sample, off, got 'none'"),
}
OUTSIDE = """
import json, sys
from probekit.settings import SettingsError, from_mapping
for key, value in json.load(sys.stdin).items():
    try:
        print(from_mapping({key: value}))
    except SettingsError as error:
        print(error)
"""


def test_a_value_of_another_kind_is_named() -> None:
    # In a process of its own: here the check of types would speak first.
    values = json.dumps({key: value for key, (value, _) in KINDS.items()})
    command = [sys.executable, "-c", OUTSIDE]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [message for _, message in KINDS.values()]


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("offsets = \n")
    with pytest.raises(SettingsError, match=r"a.toml are not TOML"):
        from_file(tmp_path / "a.toml")
    with pytest.raises(SettingsError, match=r"b.toml cannot be read: No such file"):
        from_file(tmp_path / "b.toml")

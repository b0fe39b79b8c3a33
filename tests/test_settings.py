"""Settings: one record behind flags, files and keyword arguments."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from probekit.cli.flags import described
from probekit.errors import SettingsError
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.settings import RunSettings, Settings, from_file
from support import without_type_checks

OTHER_FLAGS = {
    "output", "overwrite", "config", "dry_run", "figures", "export", "debug", "help_all",
}  # fmt: skip
UNSET = {"read", "marginal_offsets"}


@pytest.mark.parametrize(("command", "record"), [("analyze", Settings), ("heads", HeadSettings)])
def test_fields_are_flags_and_keys_of_run_toml(command: str, record: type[RunSettings]) -> None:
    from probekit.cli.main import app

    commands: Any = get_command(app)
    flags = {parameter.name for parameter in commands.commands[command].params}
    names = [field.name for field in dataclasses.fields(record)]
    assert flags - OTHER_FLAGS == set(names)
    whole = record(revision="main", limit=5, max_tokens=100, marginal_positions=9)
    assert [name for name in names if name not in UNSET] == list(tomllib.loads(whole.as_toml()))


@pytest.mark.parametrize("record", [Settings, HeadSettings])
def test_help_says_of_each_field_what_its_record_does(record: type[RunSettings]) -> None:
    assert all(described(record, field.name) for field in dataclasses.fields(record))


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
    assert Settings.from_mapping(tomllib.loads(settings.as_toml())) == settings


def test_one_site_is_written_as_it_always_was_and_several_as_a_list() -> None:
    one, same = Settings(site="mlp_out"), Settings.from_mapping({"site": ["mlp_out"]})
    assert (one, 'site = "mlp_out"' in one.as_toml()) == (same, True)
    several = Settings(site=("mlp_out", "attn_out"), readout=())
    assert several.sites == ("mlp_out", "attn_out")
    assert Settings.from_mapping(tomllib.loads(several.as_toml())) == several


def test_differing_fields_are_named() -> None:
    assert Settings(offsets=2, seed=1).differing(Settings(seed=2)) == ["offsets", "seed"]


def test_an_unknown_key_gets_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'ofsets'. Did you mean 'offsets'"):
        Settings.from_mapping({"ofsets": 3})
    with pytest.raises(SettingsError, match=r"unknown setting 'zzz'. The settings are model"):
        Settings.from_mapping({"zzz": 3})


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"offsets": 0}, "--offsets must be at least 1, got 0"),
        ({"offsets": 30, "block": 31}, r"--offsets must be in 1..29 for blocks of 31 tokens"),
        ({"block": 2}, "--block must be at least 3, got 2"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"nucleus": 0.0}, r"--nucleus must be in \(0, 1\], got 0.0"),
        ({"nucleus": 10**400}, "--nucleus must be a finite number, got 1000"),
        ({"nucleus": float("nan")}, "--nucleus must be a finite number, got nan"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
        ({"seed": 2**63}, "--seed must be at most"),
        ({"limit": 10**30}, f"--limit must be at most {2**63 - 1}, got 1000"),
        ({"block": 10**8}, "--block must be at most 1048576, got 100000000"),
        (
            {"site": ["mlp_out", "mlp_out"]},
            r"--site .* several, each once, got \('mlp_out', 'mlp_out'",
        ),
        ({"site": []}, r"--site must name one place in a block or several"),
        (
            {"site": ["attn_out", "resid_post"], "readout": ["mask-token"]},
            "that place first of several, got attn_out,resid_post",
        ),
        ({"model": "caf\udce9"}, r"--model must be text in UTF-8, got 'caf\\udce9'"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_mapping(given_)


KINDS: dict[str, tuple[Any, str]] = {
    "batch_size": ("many", "--batch-size must be int or one of auto, got 'many'"),
    "offsets": (True, "--offsets must be int, got True"),
    "layers": (["a"], "--layers must be a list, each int or one of all, got ('a',)"),
    "text": ("a.txt", "--text must be a list, each text in UTF-8, got 'a.txt'"),
    "limit": ("a", "--limit must be int or unset, got 'a'"),
    "nucleus": ("a", "--nucleus must be a number, got 'a'"),
    "site": (
        ["resid"],
        "--site must be a list, each one of resid_post, resid_mid, attn_out, mlp_out, got "
        "('resid',)",
    ),
    "marginal": ("none", "--marginal must be one of nucleus, top, off, got 'none'"),
}


def test_a_value_of_another_kind_is_named() -> None:
    values = {key: value for key, (value, _) in KINDS.items()}
    messages = [message for _, message in KINDS.values()]
    assert without_type_checks.settings(Settings, values) == messages


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("offsets = \n")
    with pytest.raises(SettingsError, match=r"a.toml are not TOML"):
        from_file(tmp_path / "a.toml", Settings)
    for content in ("a = " + "[" * 100_000, "limit = " + "9" * 5000):
        (tmp_path / "a.toml").write_text(content)
        with pytest.raises(SettingsError, match=r"a.toml are not TOML"):
            from_file(tmp_path / "a.toml", Settings)
    with pytest.raises(SettingsError, match=r"b.toml cannot be read: No such file"):
        from_file(tmp_path / "b.toml", Settings)

"""Settings of a study of heads: what is not allowed is said."""

import tomllib
from typing import Any

import pytest

from probekit.errors import SettingsError
from probekit.heads.training.recipes import RATES
from probekit.pipelines.head_study.settings import HeadSettings
from support import without_type_checks


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "linear", "init": "copy"}, "--init is for block heads"),
        ({"strategies": ("join",)}, "--strategy must be one of"),
        ({"own_unembedding": True}, "--own-unembedding is for medusa heads, got it for block"),
        (
            {"kind": "medusa", "own_unembedding": True, "strategies": ("joint-from-probes",)},
            "and no --own-unembedding",
        ),
        ({"kind": "query", "strategies": ("joint",)}, "query heads allow"),
        ({"strategies": ("heads-from-probes",), "init": "copy"}, "take --init zero"),
        ({"rate": 0.0}, "--rate must be above 0, got 0.0"),
        (
            {"kind": "query", "read": 1},
            "--read is for block, medusa, linear heads, got it for query",
        ),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"step_blocks": 0}, "--step-blocks must be at least 1"),
        ({"read": -1}, "--read must be a layer"),
        ({"offsets": 1}, "--offsets must be at least 2"),
        ({"marginal": "off"}, "--marginal must be"),
        ({"kinds": "block"}, "Did you mean 'kind'"),
        ({"probe": ("mlp",)}, "unknown setting 'probe'. The settings are model"),
    ],
)
def test_what_is_not_allowed_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        HeadSettings.from_mapping(given)


KINDS: dict[str, tuple[Any, str]] = {
    "kind": ("tree", "--kind must be one of block, medusa, linear, query, native, got 'tree'"),
    "init": ("ones", "--init must be one of random, copy, zero, got 'ones'"),
    "sweep": ("all", "--sweep must be one of default, none, got 'all'"),
    "strategies": ("joint", "--strategy must be a list, each text in UTF-8, got 'joint'"),
    "rate": (
        True,
        "--rate must be a number or one of width, paper-table, paper-rule, got True",
    ),
}


def test_a_value_of_another_kind_is_named() -> None:
    values = {key: value for key, (value, _) in KINDS.items()}
    messages = [message for _, message in KINDS.values()]
    assert without_type_checks.settings(HeadSettings, values) == messages
    assert without_type_checks.settings(HeadSettings, {"rate": 1}) == ["1.0"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rate": 1.0, "own_unembedding": False},
        {"kind": "medusa", "rate": 1e-5, "read": 0, "own_unembedding": True},
        {"strategies": ("joint",), "init": "random", "text": ('a="b"\\=x.txt',), "rate": "width"},
    ],
)
def test_a_study_can_be_repeated_from_what_is_written(given: dict[str, Any]) -> None:
    asked = HeadSettings.from_mapping({"model": "tiny", **given})
    assert HeadSettings.from_mapping(tomllib.loads(asked.as_toml())) == asked


def test_every_preset_of_recipes_is_a_rate() -> None:
    for preset in ("width", *RATES):
        assert HeadSettings.from_mapping({"rate": preset}).rate == preset


def test_heads_start_as_probes_where_nothing_else_is_asked_for() -> None:
    assert "heads-from-probes" in HeadSettings.from_mapping({}).strategies
    assert "heads-from-probes" not in HeadSettings.from_mapping({"init": "random"}).strategies
    assert "heads-from-probes" not in HeadSettings.from_mapping({"kind": "query"}).strategies
    # What is compared is matched in start and rate.
    matched = ("finetune", "heads-only", "joint", "heads-from-probes", "joint-from-probes")
    assert HeadSettings.from_mapping({}).strategies == matched
    own = HeadSettings.from_mapping({"kind": "medusa", "own_unembedding": True})
    assert "heads-from-probes" not in own.strategies

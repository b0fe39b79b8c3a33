"""Settings of a study of heads: what is not allowed is said."""

import tomllib
from typing import Any

import pytest

from probekit.errors import SettingsError
from probekit.pipelines.head_study.settings import as_toml, split


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "tree"}, "--kind must be one of block"),
        ({"init": "ones"}, "--init must be one of"),
        ({"kind": "linear", "init": "copy"}, "--init is for block heads"),
        ({"strategies": ("join",)}, "--strategy must be one of"),
        ({"own_unembedding": True}, "--own-unembedding is for medusa heads, got it for block"),
        (
            {"kind": "medusa", "own_unembedding": True, "strategies": ("joint-from-probes",)},
            "and no --own-unembedding",
        ),
        ({"kind": "query", "strategies": ("joint",)}, "query heads allow"),
        ({"strategies": ("heads-from-probes",), "init": "copy"}, "take --init zero"),
        ({"rate": "paper"}, "--rate must be a number or one of"),
        ({"rate": 0.0}, "--rate must be above 0, got 0.0"),
        ({"rate": True}, "--rate must be a number or a preset, got True"),
        ({"strategies": "joint"}, "strategies must be a list of names, got 'joint'"),
        (
            {"kind": "query", "read": 1},
            "--read is for block, medusa, linear heads, got it for query",
        ),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"step_blocks": 0}, "--step-blocks must be at least 1"),
        ({"read": -1}, "--read must be a layer"),
        ({"sweep": "all"}, "--sweep must be one of"),
        ({"offsets": 1}, "--offsets must be at least 2"),
        ({"marginal": "off"}, "--marginal must be"),
        ({"kinds": "block"}, "Did you mean 'kind'"),
        ({"probe": ("mlp",)}, "heads know no setting 'probe'"),
    ],
)
def test_what_is_not_allowed_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        split(given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rate": 1, "own_unembedding": False},
        {"kind": "medusa", "rate": 1e-5, "read": 0, "own_unembedding": True},
        {"strategies": ("joint",), "init": "random", "text": ('a="b"\\=x.txt',), "rate": "width"},
    ],
)
def test_a_study_can_be_repeated_from_what_is_written(given: dict[str, Any]) -> None:
    asked = split({"model": "tiny", **given})
    assert split(tomllib.loads(as_toml(*asked))) == asked


def test_heads_start_as_probes_where_nothing_else_is_asked_for() -> None:
    assert "heads-from-probes" in split({})[1].strategies
    assert "heads-from-probes" not in split({"init": "random"})[1].strategies
    assert "heads-from-probes" not in split({"kind": "query"})[1].strategies
    own = split({"kind": "medusa", "own_unembedding": True})
    assert "heads-from-probes" not in own[1].strategies

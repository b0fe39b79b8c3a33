"""Flags: what a value may look like, and what becomes of it."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from probekit.cli import values
from probekit.cli.flags import with_settings
from probekit.errors import SettingsError
from probekit.settings import Settings


def given(*arguments: str) -> dict[str, Any]:
    """Return the settings that flags give."""
    seen: list[dict[str, Any]] = []

    @with_settings(Settings)
    def command(settings: dict[str, Any]) -> None:
        seen.append(settings)

    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return seen[0]


@pytest.mark.parametrize(
    ("by_commas", "one_by_one", "settings"),
    [
        ("--layers 1,2", "--layers 1 --layers 2", {"layers": (1, 2)}),
        ("--probe linear,mlp", "--probe linear --probe mlp", {"probe": ("linear", "mlp")}),
        ("-t a.txt,b.txt", "--text a.txt -t b.txt", {"text": ("a.txt", "b.txt")}),
        ("--layers all", "--layers all", {"layers": "all"}),
        ("-m tiny --limit 10k", "--model tiny --limit 10000", {"model": "tiny", "limit": 10_000}),
        ("--batch-size auto", "--batch-size auto", {"batch_size": "auto"}),
    ],
)
def test_lists_come_by_commas_or_one_by_one(
    by_commas: str, one_by_one: str, settings: dict[str, Any]
) -> None:
    assert given(*by_commas.split()) == given(*one_by_one.split()) == settings


def test_a_path_that_is_there_is_one_text_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "a,b.txt"
    path.write_text("text")
    assert given("--text", f"mine={path}") == {"text": (f"mine={path}",)}


@pytest.mark.parametrize("text", ["", "x", "k", "1.2345k", "1e3", "1.5", "10 k", "nan", "9" * 4001])
def test_what_is_no_count_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="--limit must be a whole number, such as 300, 10k"):
        values.count("--limit", text)

"""The README's lists are what the code says; `make readme` writes them again."""

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.layers import LIBRARY, PACKAGES
from support.paths import ROOT

if TYPE_CHECKING:
    from transformers import PreTrainedModel

README = ROOT / "README.md"
DOCS = ROOT / "docs"


def block(text: str, name: str) -> str:
    """Return what stands between a README's `name` comments.

    >>> block("a <!-- x -->b<!-- /x --> c", "x")
    'b'
    """
    found = re.findall(f"<!-- {name} -->(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert len(found) == 1, f"the README has {len(found)} blocks called {name}, not one"
    inside: str = found[0]
    return inside


def first_sentence(source: str) -> str:
    r"""Return the first paragraph of a module's docstring on one line, up to its first full stop.

    >>> first_sentence('"Do this,\nthen that. And more.\n\nMore still."'.replace('"', '"' * 3))
    'Do this, then that.'
    """
    paragraph = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    return re.split(r"(?<=\.)\s", " ".join(paragraph.split()))[0]


def folders_block() -> str:
    """Return the packages in their order, a line each, from their docstrings."""
    sources = {package: LIBRARY / package / "__init__.py" for package in PACKAGES}
    rows = [
        f"| `probekit/{package}` | {first_sentence(path.read_text('utf-8'))} |"
        for package, path in sources.items()
    ]
    return "\n".join(["", "| folder | holds |", "| --- | --- |", *rows, ""])


def commands_block() -> str:
    """Return one line a command: its name and the first line of its help."""
    import typer

    from probekit.cli.main import app

    group = typer.main.get_group(app)
    rows = [
        f"| `probekit {name}` | {command.get_short_help_str(limit=200)} |"
        for name, command in group.commands.items()
        if not command.hidden
    ]
    return "\n".join(["", "| command | does |", "| --- | --- |", *rows, ""])


def test_the_list_of_folders_is_the_folders() -> None:
    readme = README.read_text(encoding="utf-8")
    assert block(readme, "folders") == folders_block(), "run `make readme`"


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: path.name)
def test_each_module_says_what_it_is(path: Path) -> None:
    assert first_sentence(path.read_text(encoding="utf-8")).endswith(".")


def test_the_command_list_is_the_commands() -> None:
    readme = README.read_text(encoding="utf-8")
    assert block(readme, "commands") == commands_block(), "run `make readme`"
    named = set(re.findall(r"probekit ([a-z]+)", "\n".join(_fenced(readme, "bash"))))
    assert named <= set(re.findall(r"`probekit ([a-z]+)`", commands_block()))


def test_the_quickstart_calls_what_the_package_has() -> None:
    import probekit

    snippets = "\n".join(_fenced(README.read_text(encoding="utf-8"), "python"))
    called = set(re.findall(r"probekit\.([a-z_]+)\(", snippets))
    assert called
    assert {name for name in called if not hasattr(probekit, name)} == set()


def test_the_first_commands_are_targets_of_the_makefile() -> None:
    readme = README.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", "\n".join([*_fenced(readme, "bash"), readme])))
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))])
def test_files_that_a_page_links_to_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_ladder_table_has_every_built_in_model() -> None:
    table = block((DOCS / "models.md").read_text(encoding="utf-8"), "ladder")
    built_in = {path.parent.name for path in ROOT.glob("probekit/models/bundled/*/config.json")}
    assert {name for name in built_in if f"`{name}`" not in table} == set()


def test_the_parts_work_without_the_pipeline(tiny_llama: "PreTrainedModel") -> None:
    import torch

    from probekit.readout import LINEAR

    [code] = _fenced(block(README.read_text(encoding="utf-8"), "parts"), "python")
    draw = torch.Generator().manual_seed(0)
    vocabulary = tiny_llama.config.vocab_size
    words: dict[str, Any] = {"model": tiny_llama} | {
        name: torch.randint(vocabulary, (8, 24), generator=draw)
        for name in ("train", "validation", "test")
    }
    exec(code, words)
    scores = words["scores"]
    assert set(scores["readout"]) == {LINEAR}
    assert set(scores["offset"]) == {1, 2}
    assert set(scores["layer"]) == set(range(tiny_llama.config.num_hidden_layers + 1))
    assert scores.groupby(["layer", "offset"])["n"].sum().unique().tolist() == [8 * 23, 8 * 22]


def _fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def write() -> None:
    """Write the lists into the README."""
    text = README.read_text(encoding="utf-8")
    for name, made in {"folders": folders_block(), "commands": commands_block()}.items():
        old = f"<!-- {name} -->{block(text, name)}<!-- /{name} -->"
        text = text.replace(old, f"<!-- {name} -->{made}<!-- /{name} -->")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()

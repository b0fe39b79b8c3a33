"""The README's lists are what the code says; `make readme` writes them again."""

import ast
import re
from pathlib import Path

import pytest

from support.paths import ROOT

README = ROOT / "README.md"
LIBRARY = ROOT / "probekit"


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
    """Return the tree of folders, a line each, from the packages' docstrings."""
    rows = [
        f"| `{path.parent.relative_to(ROOT)}` | {first_sentence(path.read_text('utf-8'))} |"
        for path in sorted(LIBRARY.rglob("__init__.py"))
        if path.parent != LIBRARY
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
    called = set(re.findall(r"probekit\.([a-z_]+)", snippets))
    assert called
    assert {name for name in called if not hasattr(probekit, name)} == set()


def test_the_first_commands_are_targets_of_the_makefile() -> None:
    readme = README.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", "\n".join([*_fenced(readme, "bash"), readme])))
    assert {"demo", "test"} <= named <= targets


def test_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_ladder_table_has_every_built_in_model() -> None:
    table = block(README.read_text(encoding="utf-8"), "ladder")
    built_in = {path.parent.name for path in ROOT.glob("probekit/models/bundled/*/config.json")}
    assert {name for name in built_in if f"`{name}`" not in table} == set()


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

"""The shape of the house: who may import whom, how long a file may be, what help may load."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support.layers import LIBRARY, PACKAGES, STOREYS, WORDS, modules
from support.paths import ROOT

LONGEST_FILE, LONGEST_FUNCTION = 300, 40
MOST_MODULES = 15
SAYS_NOTHING = {"utils", "base", "common", "config", "manager", "registry"}
SLOW_TO_IMPORT = {"torch", "transformers", "pandas", "sklearn", "seaborn", "pyarrow"}


def imports(source: str, known: set[str]) -> Iterator[str]:
    """Yield the modules among `known` that a source imports, in functions and for types too.

    >>> known = {"probekit.errors", "probekit.probes.linear"}
    >>> source = "from probekit.errors import DataError\\nfrom probekit import load\\nimport torch"
    >>> list(imports(source, known))
    ['probekit.errors']
    >>> list(imports("def f():\\n    from probekit.probes import linear", known))
    ['probekit.probes.linear']
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in dotted:
            parents = (name, name.rpartition(".")[0])
            yield from (module for module in parents if module in known)


@cache
def graph() -> dict[str, set[str]]:
    """Return which modules of ours each module imports."""
    files = modules()
    return {
        name: set(imports(path.read_text(encoding="utf-8"), set(files)))
        for name, path in files.items()
    }


def allowed(package: str) -> set[str]:
    """Return what a package may import: itself, the words and the storeys before its own.

    >>> sorted(allowed("activations") - WORDS)
    ['activations', 'data', 'models']
    >>> allowed("errors") <= WORDS
    True
    """
    if package in WORDS:
        return WORDS
    own = next(number for number, storey in enumerate(STOREYS) if package in storey)
    return WORDS | {package} | {name for storey in STOREYS[:own] for name in storey}


def test_every_package_has_its_storey() -> None:
    folders = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert folders == set(PACKAGES)
    assert {path.stem for path in LIBRARY.glob("*.py")} == WORDS | {"__init__", "__main__"}


@pytest.mark.parametrize("package", [*sorted(WORDS), *PACKAGES])
def test_a_package_imports_only_what_stands_before_it(package: str) -> None:
    wrong = {
        f"{name} imports {other}"
        for name, others in graph().items()
        if name.split(".")[1] == package
        for other in others
        if other.count(".") and other.split(".")[1] not in allowed(package)
    }
    assert not wrong


def test_no_module_imports_itself_in_a_circle() -> None:
    tuple(TopologicalSorter(graph()).static_order())


@pytest.mark.parametrize("folder", sorted({path.parent for path in modules().values()}), ids=str)
def test_a_folder_can_be_read_at_a_glance(folder: Path) -> None:
    assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= MOST_MODULES


@pytest.mark.parametrize(
    "path", [*modules().values(), *modules(ROOT / "tests").values()], ids=lambda path: path.name
)
def test_a_file_is_short_and_its_name_says_something(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= LONGEST_FILE
    assert path.stem not in SAYS_NOTHING


def functions_of(source: str) -> Iterator[tuple[str, int]]:
    """Yield the functions of a source with their lines, docstring left out.

    >>> list(functions_of("def f():\\n    'Say so.'\\n    return 1"))
    [('f', 2)]
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            said = node.body[0] if ast.get_docstring(node) else None
            docstring = (said.end_lineno or 0) - said.lineno + 1 if said else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


@pytest.mark.parametrize("path", modules().values(), ids=lambda path: path.name)
def test_functions_are_short(path: Path) -> None:
    functions = functions_of(path.read_text(encoding="utf-8"))
    assert [name for name, lines in functions if lines > LONGEST_FUNCTION] == []


@pytest.mark.parametrize("folder", sorted(LIBRARY.rglob("__init__.py")), ids=str)
def test_a_package_lists_its_modules(folder: Path) -> None:
    listed = ast.get_docstring(ast.parse(folder.read_text(encoding="utf-8"))) or ""
    inside = {path.stem for path in folder.parent.glob("*.py")} - {"__init__", "__main__"}
    # The top one lists what can be called instead; the README has its packages.
    if folder.parent != LIBRARY:
        assert {name for name in inside if not re.search(rf"^ *{name}\b", listed, re.M)} == set()


def _loaded_by(statements: str) -> set[str]:
    shown = f"import sys\n{statements}\nprint('loaded', *sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stderr.partition("loaded ")[2].split())


def test_importing_the_package_loads_nothing_slow() -> None:
    loaded = _loaded_by("import probekit")
    assert "probekit" in loaded
    assert not loaded & SLOW_TO_IMPORT


@pytest.mark.parametrize("arguments", [["--help"], ["analyze", "--help"]])
def test_printing_help_loads_nothing_slow(arguments: list[str]) -> None:
    # The console script's own way in, in pyproject.toml.
    loaded = _loaded_by(
        f"sys.argv = {['probekit', *arguments]!r}\n"
        "from probekit.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert "typer" in loaded
    assert not loaded & SLOW_TO_IMPORT

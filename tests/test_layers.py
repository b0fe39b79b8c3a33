"""The shape of the house: who may import whom, how long a file may be, what help may load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The one list of modules, in order: a module imports only modules above it.
FLOORS: dict[str, tuple[str, ...]] = {
    "words": ("errors", "shapes", "checks", "readout", "settings", "recipes", "head_settings"),
    "tools": (
        "corpus", "rows", "text", "tokens", "encoding", "spelling", "catalogue", "places", "models",
        "watching", "anatomy", "backbone", "blocks", "forms", "heads", "head_files", "sites",
        "capture", "routes", "branches", "paths", "targets", "moments", "metrics", "tally",
        "descent", "affine", "trainable", "probes", "progress", "provenance", "results", "adapters",
        "learner", "backward", "course", "plan", "written", "markov", "planted", "hidden_markov",
        "known", "paper", "pairs", "samples", "prompted",
    ),
    "methods": (
        "lens", "linear", "trained", "frequent", "ngram", "marginal", "branching", "score",
        "queries", "native", "training", "passages", "controls", "codelength", "contrasts",
        "specialization", "doctor",
    ),
    "door": (
        "reading", "preparation", "given", "fitting", "ceilings", "inspection", "measurement",
        "assembly", "analysis", "paired", "differing", "ladders", "comparison", "sweep",
        "rehearsal", "calibration", "protocol", "repeated", "reproduce", "head_stages",
        "head_probes", "head_training", "head_scores", "head_sweep", "head_findings",
        "head_verdict", "head_assembly", "head_study", "strategies", "__init__",
        "__main__",
    ),
}  # fmt: skip

ORDER = [name for names in FLOORS.values() for name in names]
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}

# The packages beside the library, and the floors that each may import.
BESIDE = {"reports": {"words", "tools"}, "cli": {*FLOORS, "reports"}}

LONGEST_FILE = 300
SAYS_NOTHING = {"utils", "base", "common", "config", "manager", "registry"}
SLOW_TO_IMPORT = {"torch", "transformers", "pandas", "sklearn", "seaborn", "pyarrow"}


def library_files() -> dict[str, Path]:
    return {path.stem: path for path in (ROOT / "probekit").glob("*.py")}


def all_files() -> list[Path]:
    beside = [path for package in BESIDE for path in (ROOT / "probekit" / package).rglob("*.py")]
    return [*library_files().values(), *beside]


def imported_from_probekit(source: str, package: str = "probekit") -> Iterator[str]:
    """Yield the modules of ours that a source imports: `metrics`, `cli`, `__init__`.

    A name that the package hands on (`from probekit import load`) counts as `__init__`.
    Imports inside functions count too; so do those for type checkers only.

    >>> list(imported_from_probekit("from probekit import lens, load\\nimport torch"))
    ['lens', '__init__']
    >>> list(imported_from_probekit("def f():\\n    from probekit.cli.main import app"))
    ['cli']
    >>> list(imported_from_probekit("from probekit.unlisted import x"))
    ['unlisted']
    >>> list(imported_from_probekit("from . import lens\\nfrom .score import score"))
    ['lens', 'score']
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join((parents if node.level else []) + [node.module or ""]).strip(".")
            dotted = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in dotted:
            top, _, rest = name.partition(".")
            module, _, attribute = rest.partition(".")
            if top == "probekit":
                yield module if attribute or module in {*ORDER, *BESIDE} else "__init__"


def may_import(module: str) -> set[str]:
    """Return the modules above `module`, less those of its own floor if it is a method."""
    above = set(ORDER[: ORDER.index(module)])
    floor = FLOOR_OF[module]
    allowed = above - set(FLOORS["methods"]) if floor == "methods" else above
    return allowed | ({"reports", "cli"} if floor == "door" else set())


def test_every_module_has_its_place_in_the_list() -> None:
    unlisted = set(library_files()) - set(ORDER)
    assert not unlisted, "a module is not in FLOORS"
    absent = set(ORDER) - set(library_files())
    assert not absent, "a module in FLOORS does not exist"


def test_the_list_names_each_module_once() -> None:
    assert len(ORDER) == len(set(ORDER))


def test_the_library_is_flat() -> None:
    folders = {path.parent.name for path in (ROOT / "probekit").glob("*/*.py")}
    assert folders <= set(BESIDE)


@pytest.mark.parametrize("module", [name for name in ORDER if name in library_files()])
def test_a_module_imports_only_modules_above_it(module: str) -> None:
    source = library_files()[module].read_text(encoding="utf-8")
    not_above = set(imported_from_probekit(source)) - may_import(module)
    assert not not_above


@pytest.mark.parametrize("package", BESIDE)
def test_reports_read_run_folders_and_the_command_line_is_a_client(package: str) -> None:
    allowed = {package} | {
        name for floor in BESIDE[package] for name in FLOORS.get(floor, (floor,))
    }
    for path in (ROOT / "probekit" / package).rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        not_allowed = set(imported_from_probekit(source, f"probekit.{package}")) - allowed
        assert not not_allowed, path.relative_to(ROOT)


def test_methods_may_not_import_methods_and_words_no_tools() -> None:
    assert not may_import("score") & set(FLOORS["methods"])
    assert not any(may_import(word) & set(FLOORS["tools"]) for word in FLOORS["words"])
    assert "capture" in may_import("score")
    assert "score" in may_import("analysis")


def test_our_packages_are_imported_under_their_installed_names() -> None:
    for path in all_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").partition(".")[0] not in BESIDE, path


@pytest.mark.parametrize("path", all_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_and_its_name_says_something(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_FILE
    assert path.stem not in SAYS_NOTHING


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


@pytest.mark.skipif(
    not (ROOT / "probekit" / "cli" / "main.py").exists(), reason="no command line here"
)
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

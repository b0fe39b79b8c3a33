"""Give the site the repository's own tree, so that links that hold in a checkout hold there.

A hook of mkdocs: documents and what they link to keep their paths, the README is the first page,
and each package gets a page of its modules, in the order of its docstring.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
KEPT = ("*.md", "LICENSE", "CITATION.cff", "docs/**/*", "examples/**/*", "probekit/**/*.toml")
NEITHER = ("docs/site/*.py",)


def packages() -> list[str]:
    """Return the packages of the library in the order of the README's list."""
    return re.findall(r"^\| `probekit/(\w+)`", (ROOT / "README.md").read_text("utf-8"), re.M)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the packages' pages where the navigation says `api`."""
    pages: list[Any] = ["api/probekit.md", *(f"api/{name}.md" for name in packages())]
    config.nav = [{"Python": pages} if part == {"Python": "api"} else part for part in config.nav]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of `docs` by those of the repository, and add a page for each package."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    for path in sorted({path for pattern in KEPT for path in ROOT.glob(pattern)}):
        name = path.relative_to(ROOT)
        if path.is_file() and not any(name.match(pattern) for pattern in NEITHER):
            files.append(File.generated(config, name.as_posix(), abs_src_path=str(path)))
    for name, content in {"probekit": of_all(), **{name: of(name) for name in packages()}}.items():
        files.append(File.generated(config, f"api/{name}.md", content=content))
    return files


def of_all() -> str:
    """Return the page of what `import probekit` gives."""
    return "# probekit\n\n::: probekit\n    options: {show_root_heading: false}\n"


def of(package: str) -> str:
    """Return the page of a package: its first sentence, and each of its modules."""
    folder = ROOT / "probekit" / package
    found = (f"::: {name}" for name in modules(folder, f"probekit.{package}"))
    return "\n\n".join([f"# {package}", docstring(folder).partition("\n\n")[0], *found])


def modules(folder: Path, name: str) -> Iterator[str]:
    """Yield the names of the modules that a package's docstring lists, those within it too."""
    for inner in re.findall(r"^(\w+)(?: |$)", docstring(folder).partition("\n\n")[2], re.M):
        if (folder / f"{inner}.py").exists():
            yield f"{name}.{inner}"
        elif (folder / inner / "__init__.py").exists():
            yield from modules(folder / inner, f"{name}.{inner}")


def docstring(folder: Path) -> str:
    """Return the docstring of a package."""
    return ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""

"""The built-in text: documentation and source code of the Python standard library.

Every Python has it, so an analysis needs no download. Two domains with different
predictability: `prose`, the documentation (docstrings and `pydoc` topics), and `code`,
the source without its docstrings. A module, or a topic, is a document.

Each document is in exactly one part, by a hash of its name: the built-in models were
trained on `train`, stopped early by `early-stop`, and are analysed on `held-out`. The
parts are the same on every Python version; the text in them is not.
"""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, get_args

Domain = Literal["prose", "code"]
ModelSplit = Literal["train", "early-stop", "held-out"]

DOMAINS: tuple[Domain, ...] = get_args(Domain)

# Not every distribution ships these, or they are generated tables or machine settings.
LEFT_OUT = {
    "test", "idlelib", "turtledemo", "lib2to3", "tkinter", "turtle", "ensurepip", "distutils",
    "encodings", "pydoc_data", "antigravity", "this", "_sysconfigdata", "__phello__", "_pyrepl",
}  # fmt: skip

# A shorter document has too few tokens for an offset of a few tokens to mean anything.
SHORTEST_DOCUMENT = 400

# Upper ends of the hash intervals that make the parts.
PARTS: dict[ModelSplit, float] = {"train": 0.65, "early-stop": 0.70, "held-out": 1.0}


def documents(domain: Domain, part: ModelSplit) -> dict[str, str]:
    """Return the documents of one domain and part, by name.

    Args:
        domain: `prose` or `code`.
        part: `train`, `early-stop` or `held-out`.

    Returns:
        Text by document name, in order of name.

    >>> shared = documents("code", "train").keys() & documents("code", "held-out").keys()
    >>> len(shared)
    0
    """
    texts = dict(_topics()) if domain == "prose" else {}
    text_of = docstrings if domain == "prose" else without_docstrings
    for name, path in _modules():
        if part_of(name) == part:
            texts[name] = text_of(path.read_text(encoding="utf-8"))
    return {
        name: text
        for name, text in sorted(texts.items())
        if len(text) >= SHORTEST_DOCUMENT and part_of(name) == part
    }


def part_of(name: str) -> ModelSplit:
    """Return the part that the document called `name` belongs to.

    >>> part_of("json.decoder")
    'train'
    """
    digest = hashlib.sha256(name.encode()).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    return next(part for part, end in PARTS.items() if fraction < end)


def docstrings(source: str) -> str:
    r"""Return all docstrings of a module in the order of the source, a blank line between.

    >>> docstrings('"Top."\ndef f():\n    "Inner."\n    return 1\n')
    'Top.\n\nInner.\n'
    """
    nodes = sorted(_docstring_nodes(source), key=lambda node: node.lineno)
    texts = [_cleaned(node) for node in nodes]
    return "\n\n".join(text for text in texts if text) + "\n"


def without_docstrings(source: str) -> str:
    r"""Return the source of a module with the lines of its docstrings taken out.

    >>> without_docstrings('def f():\n    "Inner."\n    return 1\n')
    'def f():\n    return 1\n'
    """
    lines = source.splitlines(keepends=True)
    for node in _docstring_nodes(source):
        if lines[node.lineno - 1][: node.col_offset].strip():
            continue  # on one line with its class or function, which stays
        end = node.end_lineno or node.lineno
        lines[node.lineno - 1 : end] = [""] * (end - node.lineno + 1)
    return "".join(lines).lstrip("\n")


@cache  # both domains ask for them, and parsing is what takes the time
def _docstring_nodes(source: str) -> tuple[ast.Constant, ...]:
    return tuple(_found_docstrings(ast.parse(source)))


def _found_docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, holders) and ast.get_docstring(node, clean=False) is not None:
            expression = node.body[0]
            if isinstance(expression, ast.Expr) and isinstance(expression.value, ast.Constant):
                yield expression.value


def _cleaned(node: ast.Constant) -> str:
    # inspect.cleandoc's rule, through the one function of ast that applies it.
    holder = ast.Module(body=[ast.Expr(value=node)], type_ignores=[])
    return (ast.get_docstring(holder) or "").strip()


def _modules() -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_path("stdlib"))
    for top in sorted(sys.stdlib_module_names - LEFT_OUT):
        package = root / top
        single = root / f"{top}.py"
        paths = sorted(package.rglob("*.py")) if package.is_dir() else [single]
        for path in paths:
            parts = path.relative_to(root).with_suffix("").parts
            if path.is_file() and not {"test", "tests"} & set(parts):
                yield ".".join(parts).removesuffix(".__init__"), path


def _topics() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics

    for name, text in topics.items():
        yield f"topics.{name}", text

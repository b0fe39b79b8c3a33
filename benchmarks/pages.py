"""Tables of benchmarks: lines of markdown, and their place in a page of docs."""

import re
from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def line(*cells: str) -> str:
    """Return cells as a line of a markdown table."""
    return f"| {' | '.join(cells)} |"


def put(page: Path, name: str, lines: Iterable[str]) -> None:
    """Write lines between a page's comments of a name."""
    inside = "\n".join([f"<!-- {name} -->", *lines, f"<!-- /{name} -->"])
    pattern = re.compile(f"<!-- {name} -->.*<!-- /{name} -->", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    page.write_text(pattern.sub(lambda _: inside, text), encoding="utf-8")

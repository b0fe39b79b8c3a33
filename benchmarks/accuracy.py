"""Write the table of docs/accuracy.md again: every kind of number beside its exact value."""

import re
from pathlib import Path

from probekit.calibration import Comparison, calibrate, verdict

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
HEAD = ("text", "number", "offset", "measured", "exact", "interval", "agrees")


def row(found: Comparison) -> str:
    """Return one line of the table."""
    where = "" if found.offset is None else f"t+{found.offset}"
    numbers = f"{found.measured:.4g}", f"{found.exact:.4g}", found.ends
    return line(found.text, found.quantity, where, *numbers, "yes" if found.agrees else "no")


def line(*cells: str) -> str:
    """Return cells as a line of a markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and write the table between the page's comments."""
    comparisons = calibrate()
    table = [line(*HEAD), line(*["---"] * len(HEAD)), *map(row, comparisons)]
    inside = "\n".join(["<!-- table -->", *table, "", verdict(comparisons), "<!-- /table -->"])
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile("<!-- table -->.*<!-- /table -->", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: inside, page), encoding="utf-8")


if __name__ == "__main__":
    main()

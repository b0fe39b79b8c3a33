"""Write the table of docs/accuracy.md again: every kind of number beside its exact value."""

from pages import DOCS, line, put

from probekit.pipelines.calibration.calibrate import Comparison, calibrate, verdict

HEAD = ("text", "number", "offset", "measured", "exact", "interval", "agrees")


def row(found: Comparison) -> str:
    """Return one line of the table."""
    where = "" if found.offset is None else f"t+{found.offset}"
    numbers = f"{found.measured:.4g}", f"{found.exact:.4g}", found.ends
    return line(found.text, found.quantity, where, *numbers, "yes" if found.agrees else "no")


def main() -> None:
    """Measure, and write the table between the page's comments."""
    comparisons = calibrate()
    table = [line(*HEAD), line(*["---"] * len(HEAD)), *map(row, comparisons)]
    put(DOCS / "accuracy.md", "table", [*table, "", verdict(comparisons)])


if __name__ == "__main__":
    main()

"""Write the table of docs/accuracy.md again: every kind of number beside its exact value."""

from pages import DOCS, line, put

from probekit.pipelines.calibration.calibrate import calibrate, verdict
from probekit.pipelines.calibration.result import CalibrationResult

HEAD = ("text", "number", "offset", "measured", "exact", "interval", "agrees")


def row(result: CalibrationResult) -> str:
    """Return one line of the table."""
    where = "" if result.offset is None else f"t+{result.offset}"
    numbers = f"{result.measured:.4g}", f"{result.exact:.4g}", result.ends
    return line(result.text, result.quantity, where, *numbers, "yes" if result.agrees else "no")


def main() -> None:
    """Measure, and write the table between the page's comments."""
    results = calibrate()
    table = [line(*HEAD), line(*["---"] * len(HEAD)), *map(row, results)]
    put(DOCS / "accuracy.md", "table", [*table, "", verdict(results)])


if __name__ == "__main__":
    main()

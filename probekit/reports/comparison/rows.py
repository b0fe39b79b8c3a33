"""The rows of a comparison, found by what they are about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probekit.reports.components.numbers import known
from probekit.reports.components.rows import Row, ceiling, domains_of, main_probe, require_schema

SCHEMA = "probekit.comparison/1"
CurveKey = tuple[str, str, int]  # run, domain, offset


@dataclass(frozen=True)
class ComparisonRows:
    """A comparison, indexed.

    Attributes:
        document: The content of a comparison, schema probekit.comparison/1.
        runs: Names of the runs, in ascending order of parameters.
        offsets: Offsets, ascending.
        domains: Domains, "all" first; it is left out where it equals the only domain.
        metric: "nats", or "bpb" where the runs' tokenizers differ.
        positions: The set of positions that the curves are of.
        headlines: Rows of `headlines` by (run, domain, offset) and quantity.
        scores: Rows of `scores` at those positions by (run, domain, offset), in their order.
    """

    document: Mapping[str, Any]
    runs: tuple[str, ...]
    offsets: tuple[int, ...]
    domains: tuple[str, ...]
    metric: str
    positions: str
    headlines: Mapping[CurveKey, Mapping[str, Row]]
    scores: Mapping[CurveKey, Sequence[Row]]

    @property
    def mixed(self) -> bool:
        """Return whether tokenizers differ: only what is counted in bytes may be compared."""
        return self.metric == "bpb"

    def model(self, run: str) -> Row:
        """Return the model of a run."""
        model: Row = next(row["model"] for row in self.document["runs"] if row["name"] == run)
        return model

    def first_domain(self, run: str) -> str | None:
        """Return the first domain of a run, None if nothing of it is known."""
        there = {domain for name, domain, _ in self.headlines if name == run}
        return next((domain for domain in self.domains if domain in there), None)

    def size(self, run: str) -> float | None:
        """Return the number of parameters, None where it is not known."""
        size = known(self.model(run).get("n_parameters"))
        return size or None

    def headline(self, key: CurveKey, quantity: str) -> Row:
        """Return a headline number, empty if there is none."""
        return self.headlines.get(key, {}).get(quantity, {})

    def quantities(self) -> tuple[str, ...]:
        """Return the quantities that have a headline number anywhere."""
        names = (row["quantity"] for row in self.document["headlines"])
        return tuple(dict.fromkeys(names))

    def positions_of(self, quantity: str) -> set[str]:
        """Return the sets of positions that a quantity was measured on, where they are said."""
        rows = (row.get(quantity, {}) for row in self.headlines.values())
        return {str(row["positions"]) for row in rows if "positions" in row}

    def probe(self, run: str) -> str | None:
        """Return the readout whose curves are drawn: linear, else the first with layers."""
        curves = (rows for key, rows in self.scores.items() if key[0] == run)
        return main_probe(row for rows in curves for row in rows)

    def curve(self, key: CurveKey, probe: str | None) -> list[Row]:
        """Return the rows of a probe by layer, ascending."""
        rows = (row for row in self.scores.get(key, ()) if row["layer"] is not None)
        return sorted((r for r in rows if r["readout"] == probe), key=lambda r: r["layer"])

    def ceiling(self, key: CurveKey) -> Row:
        """Return the row of the ceiling on the curves' positions, empty if there is none."""
        rows = (r for r in self.scores.get(key, ()) if r["readout"] == ceiling(key[2]))
        return next(rows, {})


def index(document: Mapping[str, Any]) -> ComparisonRows:
    """Index a comparison.

    Args:
        document: The content of a comparison.

    Returns:
        The rows by what they are about.

    Raises:
        RunError: If the schema is not the one that this version reads.
    """
    way_out = "compare the runs again with this version of probekit"
    require_schema(document, SCHEMA, "the page reads comparisons", way_out)
    runs = tuple(run["name"] for run in document["runs"])
    positions = _positions(document["scores"], runs)
    places = [*document["scores"], *document["headlines"]]
    return ComparisonRows(
        document=document,
        runs=runs,
        offsets=tuple(sorted({row["offset"] for row in places})),
        domains=domains_of(places),
        metric=document["metric"],
        positions=positions,
        headlines=_by_quantity(document["headlines"]),
        scores=_by_place(row for row in document["scores"] if row["positions"] == positions),
    )


def _positions(scores: Iterable[Row], runs: Sequence[str]) -> str:
    """Return the positions that have a ceiling if every run has them, else all."""
    have = {row["run"] for row in scores if row["positions"] == "marginal"}
    return "marginal" if have >= set(runs) else "all"


def _by_quantity(rows: Iterable[Row]) -> dict[CurveKey, dict[str, Row]]:
    by_key: dict[CurveKey, dict[str, Row]] = {}
    for row in rows:
        key = (row["run"], row["domain"], row["offset"])
        by_key.setdefault(key, {})[row["quantity"]] = row
    return by_key


def _by_place(rows: Iterable[Row]) -> dict[CurveKey, list[Row]]:
    by_key: dict[CurveKey, list[Row]] = {}
    for row in rows:
        by_key.setdefault((row["run"], row["domain"], row["offset"]), []).append(row)
    return by_key

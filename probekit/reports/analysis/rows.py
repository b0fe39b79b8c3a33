"""The rows of a run, found by what they are about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probekit.readout import FED, FURTHER, LENS, MARGINAL
from probekit.reports.components.rows import (
    CONTRASTS,
    Row,
    ceiling_of,
    domains_of,
    main_probe,
    require_schema,
)
from probekit.runs.folder import SCHEMA
from probekit.scoring.rates import ROUGH_NATS

OUTPUT_SITE = "resid_post"  # the only site whose last layer the model predicts from
MOST_DRAWN = 8  # offsets whose lines can still be told apart
TEXT_TARGET, MODEL_TARGET = "text", "model"  # what is predicted in a run
ScoreKey = tuple[str, int | None, int, str, str]


@dataclass(frozen=True)
class RunRows:
    """Results of a run, indexed.

    Attributes:
        results: The content of results.json.
        scores: Score rows of the main target, seed, split and site, by (readout, layer,
            offset, domain, positions); not those of `CONTRASTS`, and none that are token-fed.
        contrasts: Score rows of `CONTRASTS` by the same keys, the run's own seed first.
        target: What everything but a control is fitted to and scored against.
        offsets: Offsets, ascending.
        domains: Domains with scores, "all" first; "all" is left out where it equals the
            only domain.
        n_layers: Number of blocks L; layers run from 0 to L.
        probe: Name of the probe of the curves, or None if no probe ran.
    """

    results: Mapping[str, Any]
    scores: Mapping[ScoreKey, Row]
    contrasts: Mapping[ScoreKey, Sequence[Row]]
    target: str
    offsets: tuple[int, ...]
    domains: tuple[str, ...]
    n_layers: int
    probe: str | None

    def score(self, readout: str, layer: int | None, offset: int, where: tuple[str, str]) -> Row:
        """Return the row of a readout at (domain, positions), empty if it was not scored."""
        return self.scores.get((readout, layer, offset, *where), {})

    def seeds(self, readout: str, layer: int, offset: int, where: tuple[str, str]) -> Sequence[Row]:
        """Return the rows of a control at (domain, positions), one a seed, the run's own first."""
        return self.contrasts.get((readout, layer, offset, *where), ())

    def contrasted(self, readout: str, offset: int | None = None) -> tuple[int, ...]:
        """Return the layers at which a control ran, ascending; at one offset or at any."""
        layers = {
            key[1]
            for key in self.contrasts
            if key[0] == readout and key[1] is not None and offset in (None, key[2])
        }
        return tuple(sorted(layers))

    def key_layers(self, offset: int, domain: str) -> set[int | None]:
        """Return layer 0, the best one and the last: those kept where all would be too many."""
        return {0, self.special(offset, domain).get("best_layer"), self.n_layers}

    def measured(self, metric: str) -> bool:
        """Return whether any readout has a value of a metric."""
        return any(row.get(metric) is not None for row in self.scores.values())

    def layers(self, readout: str) -> tuple[int, ...]:
        """Return the layers that a readout was scored at, ascending."""
        layers = {key[1] for key in self.scores if key[0] == readout and key[1] is not None}
        return tuple(sorted(layers))

    def layered(self) -> tuple[str, ...]:
        """Return the readouts that have layers, the main probe first, then the lens."""
        names = dict.fromkeys(key[0] for key in self.scores if key[1] is not None)
        first = [name for name in (self.probe, LENS) if name in names]
        return tuple(dict.fromkeys([*first, *names]))

    def further(self) -> tuple[str, ...]:
        """Return the readouts of `--readout` that were scored."""
        return tuple(name for name in FURTHER if self.has(name))

    def best_layer(self, readout: str, offset: int, domain: str) -> int | None:
        """Return the layer of its lowest cross-entropy on validation, None if there is none."""
        about = (readout, offset, domain, "validation")
        names = ("readout", "offset", "domain", "split")
        rows = (row for row in self.results["scores"] if tuple(row[n] for n in names) == about)
        best: Row = min(rows, key=lambda row: row["nats"], default={})
        return best.get("layer")

    def has(self, readout: str) -> bool:
        """Return whether a readout was scored anywhere."""
        return any(key[0] == readout for key in self.scores)

    def parameters(self, readout: str) -> str:
        """Return the parameter count of a readout, a range where layers differ, or nothing."""
        rows = (row for key, row in self.scores.items() if key[0] == readout)
        counts = sorted({row["n_parameters"] for row in rows if row.get("n_parameters")})
        return " to ".join(f"{n:,}" for n in dict.fromkeys((*counts[:1], *counts[-1:])))

    def describe(self, readout: str) -> str:
        """Return name, parameters and what a readout sees: to stand at plots and tables."""
        rows = [row for key, row in self.scores.items() if key[0] == readout]
        seen = sorted({"blind" if row["blind"] else "token-fed" for row in rows})
        size = self.parameters(readout)
        return ", ".join([readout, *([f"{size} parameters"] if size else []), *seen])

    @property
    def few_offsets(self) -> tuple[int, ...]:
        """Offsets that figures and long tables show: all, or of many the first, some, the last."""
        if len(self.offsets) <= MOST_DRAWN:
            return self.offsets
        kept = {1, 2, 3, 4, 8, 16, 32, self.offsets[-1]}
        return tuple(offset for offset in self.offsets if offset in kept)

    @property
    def few_told(self) -> str:
        """Say which offsets long tables show where they do not show all."""
        if self.few_offsets == self.offsets:
            return ""
        *first, last = (f"t+{offset}" for offset in self.few_offsets)
        return f"Shown are {', '.join(first)} and {last}; all offsets are in results.json."

    def positions(self) -> tuple[str, ...]:
        """Return the sets of positions, those with a ceiling first."""
        scored = {key[4] for key in self.scores if key[0] == self.probe}
        return tuple(name for name in ("marginal", "all") if name in scored)

    @property
    def site(self) -> str | None:
        """Return where in a block the readouts of layers read, None if there are none."""
        return next(
            (row.get("site") for key, row in self.scores.items() if key[1] is not None), None
        )

    def special(self, offset: int, domain: str) -> Row:
        """Return the specialization row, empty if there is none."""
        return _find(self.results.get("specialization", ()), offset, domain)

    def family(self, readout: str, offset: int, domain: str) -> Row:
        """Return the row of a probe family with the run's own seed, empty if there is none."""
        seed = self.results["run"].get("seed")
        rows = self.results.get("families", ())
        fits = (row for row in rows if row["readout"] == readout and row["seed"] == seed)
        return _find(fits, offset, domain)

    def branching(self, offset: int, domain: str, readout: str) -> Row:
        """Return the marginalization row of a ceiling, empty if there is none."""
        rows = (row for row in self.results.get("marginal", ()) if ceiling_of(row) == readout)
        return _find(rows, offset, domain)

    def is_estimate(self, offset: int, domain: str, readout: str = MARGINAL) -> bool:
        """Return whether a ceiling is only an estimate: sampling leaves it a large error."""
        error = self.branching(offset, domain, readout).get("nats_error")
        return error is not None and error > ROUGH_NATS


def index(results: Mapping[str, Any]) -> RunRows:
    """Index the results of a run.

    Args:
        results: The content of results.json.

    Returns:
        The rows by what they are about.

    Raises:
        RunError: If the schema is not the one that this version reads.
    """
    way_out = "run the analysis again with this version of probekit"
    require_schema(results, SCHEMA, "the report reads results", way_out)
    target = (results["run"].get("settings") or {}).get("target", TEXT_TARGET)
    unfed = [row for row in results["scores"] if row["readout"] not in FED]
    tested = _of_site(_prefer(unfed, "split", "test"))
    rows = _main_rows(tested, target, results["run"].get("seed"))
    scores = {_key(row): row for row in reversed(rows)}  # the first of equals wins
    scores = dict(reversed(scores.items()))
    return RunRows(
        results=results,
        scores=scores,
        contrasts=_contrasts(tested, results["run"].get("seed")),
        target=target,
        offsets=tuple(sorted({row["offset"] for row in rows})),
        domains=domains_of(rows),
        n_layers=results["model"]["n_layers"],
        probe=main_probe(rows),
    )


def _key(row: Row) -> ScoreKey:
    return (row["readout"], row["layer"], row["offset"], row["domain"], row["positions"])


def _main_rows(tested: Sequence[Row], target: str, seed: object) -> Sequence[Row]:
    rows = [row for row in tested if row["readout"] not in CONTRASTS]
    return _prefer(_prefer(rows, "target", target), "seed", seed)


def _contrasts(tested: Sequence[Row], seed: object) -> dict[ScoreKey, list[Row]]:
    """Return the rows of controls, one a seed: each fit is another draw of the same."""
    by_key: dict[ScoreKey, dict[object, Row]] = {}
    for row in sorted(tested, key=lambda row: row.get("seed") != seed):
        if row["readout"] in CONTRASTS:
            by_key.setdefault(_key(row), {}).setdefault(row.get("seed"), row)
    return {key: list(rows.values()) for key, rows in by_key.items()}


def _of_site(rows: Sequence[Row]) -> list[Row]:
    placed = [row for row in rows if row["layer"] is not None]
    sites = {row.get("site") for row in _prefer(placed, "site", OUTPUT_SITE)}
    site = min(sites, key=str, default=None)
    return [row for row in rows if row["layer"] is None or row.get("site") == site]


def _prefer(rows: Sequence[Row], column: str, value: object) -> Sequence[Row]:
    """Keep the rows with the wanted value; all of them where none has it."""
    return [row for row in rows if row.get(column) == value] or rows


def _find(rows: Iterable[Row], offset: int, domain: str) -> Row:
    return next((row for row in rows if (row["offset"], row["domain"]) == (offset, domain)), {})

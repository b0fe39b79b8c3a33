"""Finished runs side by side: how the numbers change with the model, with intervals.

comparison = probekit.compare(["runs/tiny-s", "runs/tiny-l"])
comparison.scores           a tidy DataFrame: the scores of all runs
comparison.differences      differences with intervals, paired where that is right
comparison.write("compare.html")
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from probekit import files, reports
from probekit.errors import RunError
from probekit.hub import name_of
from probekit.pipelines.analysis import finished
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.comparison import configuration
from probekit.pipelines.comparison.paired_differences import (
    IN_BYTES,
    QUANTITIES,
    ComparedRun,
    RunPair,
    whole_block,
)
from probekit.pipelines.comparison.verdict import verdict
from probekit.pipelines.comparison.warnings import warnings
from probekit.readout import LINEAR, MARGINAL, MODEL
from probekit.reports.cards import FIGURES, Card

SCHEMA = "probekit.comparison/1"
# With more runs than this every pair would be more than can be read: each against the first.
MOST_FOR_ALL_PAIRS = 6
# Columns of `marginal` that have no interval.
COSTS = "retained_mass", "branches_mean", "nats_error"
PER_RUN = "offsets", "specialization", "marginal", "branching"

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Card):
    """Runs that were compared.

    Attributes:
        runs: The runs, smallest model first.
        scores: The scores of all runs, one row a run and row of its results.json, with `run`,
            `n_parameters_model`, `n_layers`, `depth` (layer by number of layers) and the
            interval of `bpb`. Where tokenizers differ, a token of one run is not one of another:
            runs may be held against each other in `bpb` at offset 1 alone.
        document: The whole comparison, schema probekit.comparison/1, as JSON can hold it.
    """

    runs: tuple[Run, ...]
    scores: pd.DataFrame
    document: Mapping[str, Any]

    @property
    def differences(self) -> pd.DataFrame:
        """Differences of pairs of runs, with intervals."""
        return pd.DataFrame(self.document["differences"])

    @property
    def warnings(self) -> list[dict[str, str]]:
        """The warnings: code and message."""
        return list(self.document["warnings"])

    @cached_property
    def html(self) -> str:
        """The comparison as one HTML page."""
        return reports.render_comparison(self.document)

    @property
    def place(self) -> str:
        """The names of the runs, as text."""
        return ", ".join(run["name"] for run in self.document["runs"])

    def write(self, path: str | Path, figures: bool = False) -> Path:
        """Write the HTML page and return its path.

        Args:
            path: Of the page.
            figures: Write the figures for print too, into the folder `figures` beside it.

        Raises:
            RunError: If it cannot be written.
        """
        files.write_text(Path(path), self.html)
        if figures:
            reports.write_figures(self.document, Path(path).parent / FIGURES)
        return Path(path)


def compare(runs: Sequence[str | Path | Run]) -> Comparison:
    """Compare finished runs.

    Differences are given where the text is the same: of all quantities where the tokenizer is
    too, else of bits per byte of the next token alone. Nothing else of such runs is in the
    document side by side.

    Args:
        runs: Run folders, or runs; two at least.

    Raises:
        RunError: If there are fewer than two runs, one is given twice, is not finished, or is
            of a version that kept too little.
    """
    compared = _compared(runs)
    rows = [row for run in compared for row in _scores(run)]
    same = configuration.same(compared)
    differences = [row for pair in _pairs(compared) for row in pair.differences()]
    headlines = [row for run in compared for row in _headlines(run, rows)]
    in_tokens = same["tokenizer"]
    document = {
        "schema": SCHEMA,
        "runs": [_described(run) for run in compared],
        "metric": "nats" if in_tokens else "bpb",
        "same": same,
        "verdict": verdict(compared, headlines, differences),
        "scores": [row for row in rows if _is_compared(row, compared, in_tokens)],
        **{
            part: [{"run": run.name, **row} for run in compared for row in run.results[part]]
            if in_tokens
            else []
            for part in PER_RUN
        },
        "headlines": [
            row
            for row in headlines
            if in_tokens or (row["offset"] == 1 and row["quantity"] in IN_BYTES)
        ],
        "differences": differences,
        "configuration": configuration.configuration(compared),
        "warnings": warnings(compared),
    }
    scores = pd.DataFrame(rows).astype({"layer": "Int64"})
    return Comparison(tuple(run.run for run in compared), scores, document)


def _compared(given: Sequence[str | Path | Run]) -> list[ComparedRun]:
    """Read the runs, smallest model first, each with a name of its own."""
    if isinstance(given, (str, Path)) or len(given) < 2:
        alone = [given] if isinstance(given, (str, Path)) else given
        raise RunError(
            "a comparison needs two runs at least, got "
            f"{', '.join(str(getattr(run, 'folder', run)) for run in alone) or 'none'}"
        )
    runs = [run if isinstance(run, Run) else finished.load(run) for run in given]
    folders = [run.folder.resolve() for run in runs]
    twice = sorted({str(run.folder) for run in runs if folders.count(run.folder.resolve()) > 1})
    if twice:
        raise RunError(f"a run is compared with others, not itself: {twice[0]} was given twice")
    runs.sort(key=lambda run: run.results["model"]["n_parameters"])
    return [ComparedRun.read(name, run) for name, run in zip(_names(runs), runs, strict=True)]


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run: its model's, its folder's where models share a name.

    Of a path it is the last part, or as many as tell runs apart.
    """
    models = [run.results["model"]["name"] for run in runs]
    parents = os.path.commonpath([run.folder.resolve().parent for run in runs])
    candidates = [
        [Path(name).name for name in models],
        models,
        [name_of(run.folder) or run.folder.name for run in runs],
        [str(run.folder.resolve().relative_to(parents)) for run in runs],
    ]
    names = candidates[0]
    for longer in candidates[1:]:
        names = [
            other if names.count(name) > 1 else name
            for name, other in zip(names, longer, strict=True)
        ]
    return names if len(set(names)) == len(names) else candidates[-1]


def _pairs(runs: Sequence[ComparedRun]) -> list[RunPair]:
    if len(runs) <= MOST_FOR_ALL_PAIRS:
        return [RunPair(later, earlier) for earlier, later in combinations(runs, 2)]
    return [RunPair(later, runs[0]) for later in runs[1:]]


def _described(run: ComparedRun) -> dict[str, Any]:
    """Return the row of `runs` of a comparison."""
    parts = ("model", "run", "text", "verdict", "warnings")
    return {
        "name": run.name,
        "folder": name_of(run.run.folder) or str(run.run.folder),
        **{part: run.results[part] for part in parts},
    }


def _scores(run: ComparedRun) -> Iterator[dict[str, Any]]:
    """Yield the scores of a run, with its model's size and the interval of bits per byte."""
    model, rates = run.model, {}
    for row in run.results["scores"]:
        key = row["domain"], row["split"], row["positions"], row["seed"]
        if key not in rates:
            rates[key] = run.sums.rates(*key)
        bpb = rates[key].bpb(row["readout"], row["layer"], row["offset"])
        layer = row["layer"]
        yield {
            "run": run.name,
            "n_parameters_model": model["n_parameters"],
            "n_layers": model["n_layers"],
            "depth": None if layer is None else layer / model["n_layers"],
            **row,
            **rates[key].columns("bpb", bpb),
        }


def _is_compared(row: Row, runs: Sequence[ComparedRun], in_tokens: bool) -> bool:
    """Whether a score is on test, of the first seed of its run, and at an offset that all share."""
    if row["split"] != "test" or not (in_tokens or row["offset"] == 1):
        return False
    return any(row["run"] == run.name and row["seed"] == run.sums.seed for run in runs)


def _headlines(run: ComparedRun, scores: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield `headlines` of a comparison: numbers of results.json, one a row."""
    by_cell = {
        (row["readout"], row["layer"], row["offset"], row["domain"], row["positions"]): row
        for row in scores
        if row["run"] == run.name and row["split"] == "test" and row["seed"] == run.sums.seed
    }
    ceilings = {
        (row["offset"], row["domain"]): row
        for row in run.results["marginal"]
        if row["readout"] == MARGINAL
    }
    for special in run.results["specialization"]:
        offset, domain = special["offset"], special["domain"]
        by_readout = {
            "next_token": by_cell.get((MODEL, None, 1, domain, "all")) if offset == 1 else None,
            "best_probe": by_cell[LINEAR, special["best_layer"], offset, domain, "all"],
            "ceiling": by_cell.get((MARGINAL, None, offset, domain, "marginal")),
        }
        key = {
            "run": run.name,
            "n_parameters": run.model["n_parameters"],
            "domain": domain,
            "offset": offset,
        }
        headlines = [*_rates(by_readout, special), *_costs(ceilings.get((offset, domain)))]
        headlines += _nucleus(whole_block(run, domain)) if offset == 1 else []
        yield from (key | row for row in headlines if row["value"] is not None)


def _rates(by_readout: Mapping[str, Row | None], special: Row) -> Iterator[dict[str, Any]]:
    """Yield the compared rates of one run: of its readouts, and of its specialization."""
    for name, (positions, _) in QUANTITIES.items():
        readout, _, metric = name.rpartition("_")
        row = by_readout.get(readout, special)
        if row is not None:
            yield _headline(name, row, metric if readout in by_readout else name, positions)
    yield _headline("best_depth", special, "best_depth", "all")


def _costs(row: Row | None) -> list[dict[str, Any]]:
    """Return the cost of the ceiling, of a row of `marginal`."""
    return [] if row is None else [_headline(name, row, name, "marginal") for name in COSTS]


def _nucleus(row: Row | None) -> list[dict[str, Any]]:
    """Return size and entropy of the next token's nucleus, of a row of `branching`."""
    if row is None:
        return []
    return [
        _headline("nucleus_tokens", row, "tokens_mean", "all"),
        _headline("next_token_entropy", row, "entropy_nats", "all"),
    ]


def _headline(name: str, row: Row, column: str, positions: str) -> dict[str, Any]:
    return {
        "quantity": name,
        "positions": positions,
        "value": row[column],
        "low": row.get(f"{column}_low"),
        "high": row.get(f"{column}_high"),
    }

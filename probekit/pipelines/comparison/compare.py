"""Several runs side by side: what changes with the model, and whether that is more than chance.

comparison = probekit.compare(["runs/tiny-s", "runs/tiny-l"])
comparison.scores           a tidy DataFrame: the scores of all runs
comparison.differences      differences with intervals, paired where that is right
comparison.write("compare.html")
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from probekit import files, reports
from probekit.errors import RunError
from probekit.pipelines.comparison import configuration
from probekit.pipelines.comparison import verdict as ladders
from probekit.pipelines.comparison.paired_differences import QUANTITIES, Pair, Side, whole_block
from probekit.readout import LINEAR
from probekit.runs import folder
from probekit.runs.folder import Run

SCHEMA = "probekit.comparison/1"
# With more runs than this every pair would be more than can be read: each against the first.
MOST_FOR_ALL_PAIRS = 6
# Quantities that a row of `marginal` holds, without an interval.
KEPT = "retained_mass", "branches_mean", "tv_bound_mean"
PER_RUN = "specialization", "marginal", "branching"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs that were compared.

    Attributes:
        runs: The runs, smallest model first.
        scores: The scores of all runs, one row a run and row of its folder.json, with `run`,
            `n_parameters_model`, `n_layers`, `depth` (layer by number of layers) and the
            interval of `bpb`.
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
    def headlines(self) -> pd.DataFrame:
        """The numbers that come first, one row a run, domain, offset and quantity."""
        return pd.DataFrame(self.document["headlines"])

    @property
    def verdict(self) -> list[str]:
        """What follows, in sentences."""
        return list(self.document["verdict"])

    @property
    def warnings(self) -> list[dict[str, str]]:
        """What a reader must know: code and message."""
        return list(self.document["warnings"])

    @cached_property
    def html(self) -> str:
        """The comparison as one HTML page."""
        return reports.render_comparison(self.document)

    def write(self, path: str | Path) -> Path:
        """Write the HTML page and return its path.

        Raises:
            RunError: If it cannot be written.
        """
        files.write_text(Path(path), self.html)
        return Path(path)


def compare(runs: Sequence[str | Path | Run]) -> Comparison:
    """Set finished runs side by side.

    Differences are given where the text is the same: of all quantities where the tokenizer is
    too, else of bits per byte alone.

    Args:
        runs: Run folders, or runs; two at least.

    Raises:
        RunError: If there are fewer than two runs, one is given twice, is not finished, or is
            of a version that kept too little.
    """
    sides = _sides(runs)
    rows = [row for side in sides for row in _scores(side)]
    same = configuration.same(sides)
    differences = [row for pair in _pairs(sides) for row in pair.differences()]
    headlines = [row for side in sides for row in _headlines(side, rows)]
    document = {
        "schema": SCHEMA,
        "runs": [_described(side) for side in sides],
        "metric": "nats" if same["tokenizer"] else "bpb",
        "same": same,
        "verdict": ladders.verdict(sides, headlines, differences),
        "scores": [row for row in rows if row["split"] == "test" and _is_first_fit(row, sides)],
        **{
            part: [{"run": side.name, **row} for side in sides for row in side.run.results[part]]
            for part in PER_RUN
        },
        "headlines": headlines,
        "differences": differences,
        "configuration": configuration.configuration(sides),
        "warnings": configuration.warnings(sides),
    }
    scores = pd.DataFrame(rows).astype({"layer": "Int64"})
    return Comparison(tuple(side.run for side in sides), scores, document)


def _sides(given: Sequence[str | Path | Run]) -> list[Side]:
    """Return the runs, smallest model first, each with a name of its own."""
    if isinstance(given, (str, Path)) or len(given) < 2:
        raise RunError(f"a comparison needs two runs at least, got {given!r}")
    runs = [each if isinstance(each, Run) else folder.load(each) for each in given]
    places = [run.folder.resolve() for run in runs]
    twice = sorted({str(run.folder) for run in runs if places.count(run.folder.resolve()) > 1})
    if twice:
        raise RunError(f"a run is compared with others, not itself: {twice[0]} was given twice")
    for run in runs:
        if "tokenizer" not in run.results["model"]:
            raise RunError(
                f"{run.folder} cannot be compared: it does not say which tokenizer it used. "
                "Run it again with --overwrite"
            )
    runs.sort(key=lambda run: run.results["model"]["n_parameters"])
    sides = [Side(name, str(run.folder), run) for name, run in zip(_names(runs), runs, strict=True)]
    for side in sides:
        _ = side.sums  # that a run kept enough is asked of all before work begins
    return sides


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run: its model's; its folder's where that is not enough."""
    words = [
        [run.results["model"]["name"] for run in runs],
        [run.folder.name for run in runs],
        [str(run.folder) for run in runs],
    ]
    names = words[0]
    for other in words[1:]:
        names = [
            another if names.count(name) > 1 else name
            for name, another in zip(names, other, strict=True)
        ]
    return names if len(set(names)) == len(names) else words[-1]


def _pairs(sides: Sequence[Side]) -> list[Pair]:
    if len(sides) <= MOST_FOR_ALL_PAIRS:
        return [Pair(later, earlier) for earlier, later in combinations(sides, 2)]
    return [Pair(later, sides[0]) for later in sides[1:]]


def _described(side: Side) -> dict[str, Any]:
    parts = ("model", "run", "text", "verdict", "warnings")
    known = {part: side.run.results[part] for part in parts}
    return {"name": side.name, "folder": side.folder, **known}


def _scores(side: Side) -> Iterator[dict[str, Any]]:
    """Yield the scores of a run, with its model's size and the interval of bits per byte."""
    model, sums = side.model, side.sums
    rates = {}
    for row in side.run.results["scores"]:
        where = row["domain"], row["split"], row["positions"], row["seed"]
        if where not in rates:
            rates[where] = sums.rates(*where)
        per_byte = rates[where].bpb(row["readout"], row["layer"], row["offset"])
        layer = row["layer"]
        yield {
            "run": side.name,
            "n_parameters_model": model["n_parameters"],
            "n_layers": model["n_layers"],
            "depth": None if layer is None else layer / model["n_layers"],
            **row,
            **rates[where].columns("bpb", per_byte),
        }


def _is_first_fit(row: Mapping[str, Any], sides: Sequence[Side]) -> bool:
    """Whether a score is of the first seed of its run, of which the findings are made."""
    return any(row["run"] == side.name and row["seed"] == side.sums.seed for side in sides)


def _headlines(side: Side, scores: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield `headlines` of a comparison: numbers of folder.json, one a row."""
    own = {
        (row["readout"], row["layer"], row["offset"], row["domain"], row["positions"]): row
        for row in scores
        if row["run"] == side.name and row["split"] == "test" and row["seed"] == side.sums.seed
    }
    ceilings = {
        (row["offset"], row["domain"]): row
        for row in side.run.results["marginal"]
        if row["readout"] == "marginal"
    }
    for special in side.run.results["specialization"]:
        offset, domain = special["offset"], special["domain"]
        known = {
            "next_token": own.get(("model", None, 1, domain, "all")) if offset == 1 else None,
            "best_probe": own[LINEAR, special["best_layer"], offset, domain, "all"],
            "ceiling": own.get(("marginal", None, offset, domain, "marginal")),
        }
        place = {
            "run": side.name,
            "n_parameters": side.model["n_parameters"],
            "domain": domain,
            "offset": offset,
        }
        found = [*_rates(known, special), *_costs(ceilings.get((offset, domain)))]
        found += _spread(whole_block(side, domain)) if offset == 1 else []
        yield from (place | row for row in found if row["value"] is not None)


def _rates(
    known: Mapping[str, Mapping[str, Any] | None], special: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    for name, (positions, _) in QUANTITIES.items():
        readout, _, metric = name.rpartition("_")
        row = known.get(readout, special)
        if row is not None:
            yield _taken(name, row, metric if readout in known else name, positions)
    yield _taken("best_depth", special, "best_depth", "all")


def _costs(row: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    for name in KEPT if row is not None else ():
        yield _taken(name, row or {}, name, "marginal")


def _spread(row: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if row is None:
        return []
    return [
        _taken("nucleus_tokens", row, "tokens_mean", "all"),
        _taken("next_token_entropy", row, "entropy_nats", "all"),
    ]


def _taken(name: str, row: Mapping[str, Any], column: str, positions: str) -> dict[str, Any]:
    return {
        "quantity": name,
        "positions": positions,
        "value": row[column],
        "low": row.get(f"{column}_low"),
        "high": row.get(f"{column}_high"),
    }

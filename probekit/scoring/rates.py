"""From sums by document to rates with intervals.

A rate is an array of shape (1 + resamples,): the estimate, then the same number from each
resample of documents. The resamples are the same for all readouts, so arithmetic on rates
gives paired differences and ratios, whose intervals `Rates.summary` returns.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probekit.errors import DataError
from probekit.readout import CONTROL, LINEAR, SKIP_BIGRAM, UNIGRAM
from probekit.scoring.intervals import effective_documents, interval, resampled_weights
from probekit.scoring.losses import v_information_bits

Rate = NDArray[np.float64]
CellKey = tuple[str, int | None, int]

RESAMPLES = 1_000
METRICS = ("nats", "top1", "top5", "joint", "joint_nats")
ALL = "all"
# Readouts that see the current token alone.
TOKEN_ONLY = (SKIP_BIGRAM, None), (LINEAR, 0)

# Where sampling leaves the ceiling's cross-entropy a larger standard error, it is an estimate.
ROUGH_NATS = 0.05
# With fewer documents than this there is no interval, and no verdict.
FEWEST_FOR_INTERVAL = 8
# Gains of the (L, 1) probe beyond this blur the comparison with the ceiling.
MUCH_ADAPTATION_NATS = 0.05


@dataclass(frozen=True)
class Rates:
    """Rates of all cells on one set of documents and positions.

    Attributes:
        cells: Cells by (readout, layer, offset), with their flag `blind`.
        values: Rates by metric, each of shape (cells, 1 + resamples); `bytes` are the bytes that
            a target stands for.
        n_positions: Positions of each cell.
        n_documents: Documents of each cell.
        n_bytes: Bytes that each cell's targets stand for.
        effective_documents: Documents of equal size that tell as much; of the cell that has
            the fewest, so that a difference of two cells is never given more than it has.
    """

    cells: Mapping[CellKey, bool]
    values: Mapping[str, NDArray[np.float64]]
    n_positions: NDArray[np.float64]
    n_documents: NDArray[np.int64]
    n_bytes: NDArray[np.float64]
    effective_documents: float

    @property
    def shortage(self) -> str:
        """Say that documents are too few for an interval, if they are; else it is empty."""
        count = int(self.n_documents.max())
        if count >= FEWEST_FOR_INTERVAL:
            return ""
        documents = "test documents" if count > 1 else "test document"
        return f"only {count} {documents}; {FEWEST_FOR_INTERVAL} are needed"

    def summary(self, rate: Rate) -> tuple[float, float, float]:
        """Return the estimate and the ends of the 95 % interval of what was made of rates here.

        The ends are NaN, so that no comparison with them holds, where documents are too few.
        """
        if self.shortage:
            return float(rate[0]), math.nan, math.nan
        low, high = interval(rate[1:], self.effective_documents)
        return float(rate[0]), low, high

    def rate(self, metric: str, readout: str, layer: int | None, offset: int) -> Rate:
        """Return the rate of one cell.

        Raises:
            DataError: If the cell was not scored here.
        """
        key = (readout, layer, offset)
        if key not in self.cells:
            raise DataError(f"{readout} at layer {layer}, offset {offset} was not scored")
        return np.asarray(self.values[metric][list(self.cells).index(key)])

    def nats(self, readout: str, layer: int | None, offset: int) -> Rate:
        """Return the cross-entropy of one cell, in nats."""
        return self.rate("nats", readout, layer, offset)

    def bpb(self, readout: str, layer: int | None, offset: int) -> Rate:
        """Return the cross-entropy of one cell, in bits per byte."""
        bits = self.nats(readout, layer, offset) / math.log(2)
        return np.asarray(bits / self.rate("bytes", readout, layer, offset))

    def has(self, readout: str, layer: int | None, offset: int) -> bool:
        """Whether the cell was scored here."""
        return (readout, layer, offset) in self.cells

    def layers(self, readout: str, offset: int) -> list[int]:
        """Return the layers at which a readout was scored, ascending."""
        layers = [key[1] for key in self.cells if key[0] == readout and key[2] == offset]
        return sorted(layer for layer in layers if layer is not None)

    def best_layer(self, readout: str, offset: int) -> int:
        """Return the layer at which a readout has the lowest cross-entropy here.

        Raises:
            DataError: If it was scored at no layer.
        """
        layers = self.layers(readout, offset)
        if not layers:
            raise DataError(f"{readout} at offset {offset} was scored at no layer")
        return min(layers, key=lambda at: float(self.nats(readout, at, offset)[0]))

    def token_floor(self, offset: int) -> tuple[str, int | None]:
        """Return the better of the readouts that see the current token alone, and its layer."""
        scored = [(name, at) for name, at in TOKEN_ONLY if self.has(name, at, offset)]
        return min(scored, key=lambda floor: float(self.nats(floor[0], floor[1], offset)[0]))

    def columns(self, name: str, rate: Rate | None) -> dict[str, float | None]:
        """Return estimate and interval as the columns of a row; nulls for what is not known."""
        value, low, high = None, None, None
        if rate is not None and np.isfinite(rate[0]):
            value, *ends = self.summary(rate)
            low, high = (None if math.isnan(end) else end for end in ends)
        return {name: value, f"{name}_low": low, f"{name}_high": high}

    def rows(self, floors: Mapping[int, tuple[str, int | None]]) -> Iterator[dict[str, Any]]:
        """Yield one row for each cell, as `scores` in results.json has it.

        Args:
            floors: By offset, what bits beyond the current token are counted from.
        """
        for index, ((readout, layer, offset), blind) in enumerate(self.cells.items()):
            nats = self.values["nats"][index]
            row: dict[str, Any] = {
                "readout": readout,
                "layer": layer,
                "offset": offset,
                "blind": blind,
                "n_positions": int(self.n_positions[index]),
                "n_documents": int(self.n_documents[index]),
                "n_bytes": round(float(self.n_bytes[index])),
            }
            bytes_per_position = self.n_bytes[index] / self.n_positions[index]
            row["bpb"] = float(nats[0] / math.log(2) / bytes_per_position)
            row |= self.columns("nats", nats)
            for name, floor in (("bits", (UNIGRAM, None)), ("bits_given_token", floors[offset])):
                # The labels of a control task are not the text's: no floor of the text is theirs.
                text = readout != CONTROL
                bits = v_information_bits(self.nats(*floor, offset), nats) if text else None
                row |= self.columns(name, bits)
            for metric in ("top1", "top5"):
                row |= self.columns(metric, self.values[metric][index])
            yield row


@dataclass(frozen=True)
class DocumentSums:
    """What was scored: sums by document.

    Attributes:
        table: Rows of `probekit.scoring.score.score`, with columns `split` and `seed`.
        domains: Domain of each document number.
        bytes_per_token: Bytes that a token stands for, by document number.
        seed: Seed of the resampling, and of what was fitted first.
        averaged: Whether rates are means over seeds, which then vary in intervals too.
        drawn_from: By a set of positions that is a draw, the set that it is drawn from. Of several
            domains together each weighs in a draw as much as in what it is drawn from.
    """

    table: pd.DataFrame
    domains: Sequence[str]
    bytes_per_token: Sequence[float]
    seed: int = 0
    averaged: bool = False
    drawn_from: Mapping[str, str] = field(default_factory=lambda: {"marginal": "all"})

    @property
    def groups(self) -> list[str]:
        """Domains in order, `all` first if there are several."""
        names = list(dict.fromkeys(self.domains))
        return [ALL, *names] if len(names) > 1 else names

    def named(self) -> pd.DataFrame:
        """Return the table with what is known of each row's document, as scores.parquet has it."""
        numbers = self.table["document"]
        return self.table.assign(
            domain=[self.domains[number] for number in numbers],
            bytes_per_token=[self.bytes_per_token[number] for number in numbers],
        )

    @classmethod
    def read(cls, table: pd.DataFrame, seed: int) -> "DocumentSums":
        """Return the sums of a table that `named` made; its documents are numbered afresh.

        Args:
            table: The table.
            seed: Seed of what was fitted first, and of the resampling.
        """
        _, first, number = np.unique(table["document"], return_index=True, return_inverse=True)
        documents = table.iloc[first]
        sizes = [float(size) for size in documents["bytes_per_token"]]
        table = table.reset_index(drop=True).assign(document=number)
        return cls(table, list(documents["domain"]), sizes, seed)

    def resampled(self, seed: int) -> "DocumentSums":
        """Return what was fitted first, alone, with resamples drawn by another seed."""
        first = self.table[self.table["seed"] == self.seed].reset_index(drop=True)
        return DocumentSums(first.assign(seed=seed), self.domains, self.bytes_per_token, seed)

    @property
    def repeated(self) -> dict[int, set[str]]:
        """Readouts by further seed with which they were fitted again."""
        more = self.table[self.table["seed"] != self.seed]
        return {
            int(seed): set(more[more["seed"] == seed]["readout"]) for seed in more["seed"].unique()
        }

    def rates(self, domain: str, split: str, positions: str, seed: int | None = None) -> Rates:
        """Return the rates of all cells on the documents of a domain, split and position set.

        Args:
            domain: Name of the domain, or `all`.
            split: Part of the text.
            positions: Set of positions.
            seed: A further seed: readouts that were fitted with it take the place of their
                first fits.

        Raises:
            DataError: If nothing was scored there.
        """
        seeds = [seed, *(sorted(self.repeated) if self.averaged else ())]
        parts = [self._chosen(domain, split, positions, each) for each in seeds]
        cells = dict(zip(_keys(parts[0]), parts[0]["blind"], strict=True))
        column = {key: i for i, key in enumerate(cells)}
        # Of all sets of positions, so that two sets have the same resamples.
        documents = np.unique(self._inside(domain, split)["document"])
        rows = [np.searchsorted(documents, part["document"]) for part in parts]
        columns = [[column[key] for key in _keys(part)] for part in parts]

        def matrices(name: str) -> Iterator[NDArray[np.float64]]:
            for part, row, place in zip(parts, rows, columns, strict=True):
                sums = np.zeros((len(documents), len(cells)))
                sums[row, place] = part[name]
                yield sums

        n = next(matrices("n"))
        sizes = np.array(self.bytes_per_token)[documents]
        by_seed = resampled_weights(len(documents), len(parts), RESAMPLES, self.seed)
        by_seed *= (scale := self._scale(domain, split, positions))
        weights = by_seed.sum(axis=0)
        total = weights @ n

        def mean(name: str) -> NDArray[np.float64]:
            sums = (w @ matrix for w, matrix in zip(by_seed, matrices(name), strict=True))
            return np.asarray(sum(sums) / total).T

        with np.errstate(invalid="ignore"):  # a resample without data is NaN, and left out
            values = {m: mean(f"{m}_sum") for m in METRICS}
            values["bytes"] = (weights @ (n * sizes[:, None]) / total).T
        fewest = float(effective_documents(n * scale[:, None]).min())
        return Rates(cells, values, n.sum(axis=0), (n > 0).sum(axis=0), sizes @ n, fewest)

    def _chosen(self, domain: str, split: str, positions: str, seed: int | None) -> pd.DataFrame:
        """Return one row a cell and document: of the first fits, or of a further seed's."""
        inside, seed = self._inside(domain, split), self.seed if seed is None else seed
        seeds = np.where(inside["readout"].isin(self.repeated.get(seed, set())), seed, self.seed)
        chosen = inside[(inside["positions"] == positions) & (inside["seed"] == seeds)]
        if chosen.empty:
            raise DataError(f"nothing was scored on {domain}, {split}, positions {positions}")
        return chosen

    def _scale(self, domain: str, split: str, positions: str) -> NDArray[np.float64]:
        """Return how often each position of a document counts, by document."""
        inside, whole = self._inside(domain, split), self.drawn_from.get(positions)
        if whole not in inside["positions"].unique():
            return np.ones(inside["document"].nunique())
        n = inside.pivot_table(index="document", columns="positions", values="n", aggfunc="max")
        names = [self.domains[number] for number in n.index]
        sizes = n[[positions, whole]].groupby(names).transform("sum")
        return (sizes[whole] / sizes[positions]).where(sizes[positions] > 0, 1).to_numpy()

    def _inside(self, domain: str, split: str) -> pd.DataFrame:
        """Return the rows of a domain and split, of all seeds and sets of positions."""
        inside = self.table[self.table["split"] == split]
        if domain != ALL or ALL not in self.groups:
            numbers = [i for i, name in enumerate(self.domains) if name == domain]
            inside = inside[inside["document"].isin(numbers)]
        return inside


def _keys(table: pd.DataFrame) -> list[CellKey]:
    rows = zip(table["readout"], table["layer"].astype(float), table["offset"], strict=True)
    return [(r, None if math.isnan(layer) else int(layer), int(k)) for r, layer, k in rows]

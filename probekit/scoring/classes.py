"""Where what is read comes from: rates by class of the target, differences paired.

read_bits   floor minus probe within a class
share       what the class adds to the bits read at all positions, as a share of these
room_bits   what is read, and probe minus ceiling within the class where marginalization ran
recovered   what is read as a share of the room
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import ALL, METRICS, DocumentSums, Rate, Rates
from probekit.scoring.specialization import LEAST_ROOM_BITS

FLOOR, PROBE, CEILING = "floor", "probe", "ceiling"
# Sets of positions: all; a class, or those of it with a ceiling; and a class as a part of all,
# where a position outside counts as one at which nothing is lost.
EVERYTHING, INSIDE, WITH_CEILING, PART = "everything", "inside", "with a ceiling", "part"


@dataclass(frozen=True)
class Classes:
    """Test positions with their classes, scored by floor, probe and ceiling.

    Attributes:
        table: Columns readout (`floor`, `probe`, `ceiling`), offset, document, nats, top1 and
            marginal (whether the position has a ceiling), and one column a kind of class.
        kinds: Names of these columns.
        domains: Domain of each document number.
        seed: Seed of the resampling.
    """

    table: pd.DataFrame
    kinds: Sequence[str]
    domains: Sequence[str]
    seed: int

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield `classes` of results.json: one row a kind, class, domain and offset."""
        everything = self._sums({EVERYTHING: self.table[self.table["readout"] != CEILING]})
        of_all = {name: everything.rates(name, "test", EVERYTHING) for name in everything.groups}
        for kind in self.kinds:
            for name in sorted(self.table[kind].unique()):
                sums = self._sums(self._parts(self.table[kind] == name))
                for domain in sums.groups:
                    if _scored(sums, domain, INSIDE):
                        place = {"kind": kind, "class": str(name), "domain": domain}
                        yield from (place | row for row in _rows(sums, domain, of_all[domain]))

    def _parts(self, inside: "pd.Series[bool]") -> dict[str, pd.DataFrame]:
        """Return the positions of a class, by set of positions."""
        table, all_over = self.table, self.table["readout"] != CEILING
        zeroed = table.assign(nats=table["nats"].where(inside, 0.0))
        return {
            PART: zeroed[all_over],
            INSIDE: table[all_over & inside],
            WITH_CEILING: table[table["marginal"] & inside],
        }

    def _sums(self, parts: Mapping[str, pd.DataFrame]) -> DocumentSums:
        place = ["readout", "offset", "document"]
        summed = [
            part.assign(n=1).groupby(place, as_index=False)[["n", "nats", "top1"]].sum()
            .assign(positions=name)
            for name, part in parts.items()
        ]  # fmt: skip
        whole = pd.concat(summed, ignore_index=True)
        known = {"nats": "nats_sum", "top1": "top1_sum"}
        unknown = {f"{metric}_sum": np.nan for metric in METRICS if metric not in known}
        whole = whole.rename(columns=known).assign(
            layer=float("nan"), blind=True, split="test", seed=self.seed, **unknown
        )
        sizes = [1.0] * len(self.domains)  # bytes are not asked for
        drawn_from = {WITH_CEILING: INSIDE}
        return DocumentSums(whole, self.domains, sizes, self.seed, drawn_from=drawn_from)


def _rows(sums: DocumentSums, domain: str, everything: Rates) -> Iterator[dict[str, Any]]:
    """Yield the numbers of one class and domain, by offset."""
    part, inside = (sums.rates(domain, "test", name) for name in (PART, INSIDE))
    with_ceiling = None
    if _scored(sums, domain, WITH_CEILING):
        with_ceiling = sums.rates(domain, "test", WITH_CEILING)
    for readout, layer, offset in inside.cells:
        if readout != PROBE:
            continue
        n, of_all = (
            int(rates.n_positions[list(rates.cells).index((PROBE, layer, offset))])
            for rates in (inside, everything)
        )
        read, total, added = (
            _bits(rates, FLOOR, PROBE, offset) for rates in (inside, everything, part)
        )
        share = None
        if added is not None and total is not None:
            share = added / np.where(total > 0, total, np.nan)
        row: dict[str, Any] = {"offset": offset, "n_positions": n}
        row["share_of_positions"] = n / of_all
        row |= inside.columns("top1", inside.rate("top1", PROBE, layer, offset))
        row |= inside.columns("read_bits", read) | everything.columns("share", share)
        yield row | _of_ceiling(with_ceiling, read, offset)


def _of_ceiling(rates: Rates | None, read: Rate | None, offset: int) -> dict[str, Any]:
    columns = ("room_bits", "recovered")
    more = None if rates is None else _bits(rates, PROBE, CEILING, offset)
    if rates is None or read is None or more is None:
        return {f"{name}{end}": None for name in columns for end in ("", "_low", "_high")}
    room = read + more
    enough = rates.summary(room)[1] >= LEAST_ROOM_BITS
    recovered = read / np.where(room > 0, room, np.nan) if enough else None
    return rates.columns("room_bits", room) | rates.columns("recovered", recovered)


def _scored(sums: DocumentSums, domain: str, positions: str) -> bool:
    chosen = sums.table[sums.table["positions"] == positions]
    return any(domain in (ALL, sums.domains[number]) for number in chosen["document"])


def _bits(rates: Rates, worse: str, better: str, offset: int) -> Rate | None:
    """Return what one reads more than the other in bits, None where one has no position."""
    if not (rates.has(worse, None, offset) and rates.has(better, None, offset)):
        return None
    return v_information_bits(*(rates.nats(name, None, offset) for name in (worse, better)))

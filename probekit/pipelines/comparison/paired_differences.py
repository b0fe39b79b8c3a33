"""Two runs set against each other: differences with intervals.

Where two runs tell the same positions of the same documents, both are resampled alike, so that
what makes a document hard for both drops out of the difference. Elsewhere each is resampled by
itself, and the interval is wider.

Resamples are drawn by one seed for all runs, whatever theirs are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from probekit.errors import DataError, RunError
from probekit.readout import LINEAR
from probekit.runs.folder import Run
from probekit.scoring.intervals import interval
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import ALL, DocumentSums, Rate, Rates
from probekit.scoring.specialization import DomainRates

RESAMPLED_BY, RESAMPLED_APART_BY = 0, 1
# Settings by which the positions of marginalization are drawn.
DRAWN_BY = "offsets", "marginal_positions", "seed"

Quantity = tuple[str, Callable[[DomainRates, int], Rate | None]]


@dataclass(frozen=True, eq=False)
class Side:
    """A run that is compared.

    Attributes:
        name: What to call it: no two runs have one name.
        folder: As it was given.
        run: The run.
    """

    name: str
    folder: str
    run: Run

    @property
    def model(self) -> Mapping[str, Any]:
        """The model, as results.json has it."""
        found: Mapping[str, Any] = self.run.results["model"]
        return found

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings, as results.json has them."""
        found: Mapping[str, Any] = self.run.results["run"]["settings"]
        return found

    @property
    def texts(self) -> dict[str, str]:
        """Digest of the text of each domain; of all together, where there are several."""
        found = {row["domain"]: row["sha256"] for row in self.run.results["text"]}
        return {ALL: " ".join(found.values()), **found} if len(found) > 1 else found

    @cached_property
    def sums(self) -> DocumentSums:
        """The sums by document.

        Raises:
            RunError: If the run is of a version that kept too little to be compared.
        """
        try:
            return DocumentSums.read(self.run.documents, self.run.results["run"]["seed"])
        except DataError as error:
            raise RunError(
                f"{self.folder} cannot be compared: {error}. Run it again with --overwrite"
            ) from None

    @cached_property
    def alike(self) -> dict[str, DomainRates]:
        """Rates by domain, from the resamples that all runs share."""
        return self._domains(RESAMPLED_BY)

    @cached_property
    def apart(self) -> dict[str, DomainRates]:
        """Rates by domain, from resamples of its own."""
        return self._domains(RESAMPLED_APART_BY)

    @cached_property
    def counts(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Positions by document, in order, and offset; for each domain and set of positions."""
        tests = self.sums.table[self.sums.table["split"] == "test"]
        found = {}
        for domain in self.sums.groups:
            whole = domain == ALL and len(self.sums.groups) > 1
            own = tests if whole else tests[tests["domain"] == domain]
            for positions, rows in own.groupby("positions"):
                found[domain, str(positions)] = rows.pivot_table(
                    index=["document", "domain"], columns="offset", values="n", fill_value=0
                )
        return found

    def _domains(self, seed: int) -> dict[str, DomainRates]:
        sums, n_layers = self.sums.resampled(seed), self.model["n_layers"]
        return {name: DomainRates.of(sums, name, n_layers) for name in sums.groups}


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs; differences are `side` minus `reference`."""

    side: Side
    reference: Side

    def differences(self) -> Iterator[dict[str, Any]]:
        """Yield `differences` of a comparison: one row a domain, offset and quantity.

        Nothing is yielded where the text or the targets differ. Where the tokenizers differ,
        it is bits per byte alone.
        """
        if self.side.settings["target"] != self.reference.settings["target"]:
            return
        last = min(each.settings["offsets"] for each in (self.side, self.reference))
        for domain in self.domains():
            for offset in range(1, last + 1):
                for name in QUANTITIES if self.one_tokenizer else IN_BYTES:
                    found = self._difference(name, domain, offset)
                    if found is not None:
                        yield self._row(name, domain, offset) | found
            found = self._nucleus_tokens(domain)
            if found is not None:
                yield self._row("nucleus_tokens", domain, 1) | found

    def domains(self) -> list[str]:
        """Return the domains whose text is the same."""
        theirs = self.reference.texts
        return [name for name, digest in self.side.texts.items() if theirs.get(name) == digest]

    @property
    def one_tokenizer(self) -> bool:
        """Whether the text becomes the same tokens."""
        return bool(self.side.model["tokenizer"] == self.reference.model["tokenizer"])

    def paired(self, domain: str, positions: str, offset: int) -> bool:
        """Whether both runs tell the same positions of the same documents."""
        ours, theirs = self.side, self.reference
        if not self.one_tokenizer or domain not in self.domains():
            return False
        drawn = positions != "all"
        if drawn and any(ours.settings[name] != theirs.settings[name] for name in DRAWN_BY):
            return False
        a, b = (each.counts[domain, positions] for each in (ours, theirs))
        owners, theirs_too = (list(table.index.get_level_values("domain")) for table in (a, b))
        return owners == theirs_too and np.array_equal(a[offset].to_numpy(), b[offset].to_numpy())

    def _row(self, name: str, domain: str, offset: int) -> dict[str, Any]:
        return {
            "run": self.side.name,
            "reference": self.reference.name,
            "domain": domain,
            "offset": offset,
            "quantity": name,
        }

    def _difference(self, name: str, domain: str, offset: int) -> dict[str, Any] | None:
        positions, rate_of = QUANTITIES[name]
        paired = self.paired(domain, positions, offset)
        ours = self.side.alike[domain]
        theirs = (self.reference.alike if paired else self.reference.apart)[domain]
        a, b = rate_of(ours, offset), rate_of(theirs, offset)
        if a is None or b is None:
            return None
        fewest = min(_rates(each, positions).effective_documents for each in (ours, theirs))
        low, high = interval((a - b)[1:], fewest)
        return {
            "positions": positions,
            "value": float(a[0] - b[0]),
            "low": low,
            "high": high,
            "paired": paired,
        }

    def _nucleus_tokens(self, domain: str) -> dict[str, Any] | None:
        """Return the difference of the mean number of tokens in the nucleus.

        Its sums by document are not kept: the interval is made of both sides' intervals, as
        for independent runs, and so too wide where documents are the same.

        Source: Zou and Donner (2008), "Construction of confidence limits about effect
        measures: a general approach".
        """
        sides = self.side, self.reference
        if not self.one_tokenizer or len({each.settings["nucleus"] for each in sides}) > 1:
            return None
        a, b = (whole_block(each, domain) for each in sides)
        ends = [row and row["tokens_mean_low"] for row in (a, b)]
        if a is None or b is None or None in ends:
            return None
        value = a["tokens_mean"] - b["tokens_mean"]
        below = a["tokens_mean"] - a["tokens_mean_low"], b["tokens_mean_high"] - b["tokens_mean"]
        above = a["tokens_mean_high"] - a["tokens_mean"], b["tokens_mean"] - b["tokens_mean_low"]
        low, high = value - float(np.hypot(*below)), value + float(np.hypot(*above))
        return {"positions": "all", "value": value, "low": low, "high": high, "paired": False}


def whole_block(side: Side, domain: str) -> Mapping[str, Any] | None:
    """Return the row of `branching` for all positions of the block; None if there is none."""
    rows = [row for row in side.run.results["branching"] if row["domain"] == domain]
    return max(rows, key=lambda row: row["positions_to"] - row["positions_from"], default=None)


def _rates(domain: DomainRates, positions: str) -> Rates:
    return domain.test if positions == "all" else domain.marginal


def _next_token(metric: str) -> Callable[[DomainRates, int], Rate | None]:
    def rate(domain: DomainRates, offset: int) -> Rate | None:
        if offset > 1 or not domain.test.has("model", None, 1):
            return None
        return _of(domain.test, metric, "model", None, 1)

    return rate


def _best_probe(metric: str) -> Callable[[DomainRates, int], Rate | None]:
    def rate(domain: DomainRates, offset: int) -> Rate | None:
        return _of(domain.test, metric, LINEAR, domain.best_layer(offset), offset)

    return rate


def _ceiling(metric: str) -> Callable[[DomainRates, int], Rate | None]:
    def rate(domain: DomainRates, offset: int) -> Rate | None:
        if not domain.marginal.has("marginal", None, offset):
            return None
        return _of(domain.marginal, metric, "marginal", None, offset)

    return rate


def _of(rates: Rates, metric: str, readout: str, layer: int | None, offset: int) -> Rate:
    if metric == "bpb":
        return rates.bpb(readout, layer, offset)
    if metric == "bits":
        floor = rates.nats("unigram", None, offset)
        return v_information_bits(floor, rates.nats(readout, layer, offset))
    return rates.rate(metric, readout, layer, offset)


# What is compared: set of positions, and the rate of one run. The ceiling's are `marginal`.
QUANTITIES: Mapping[str, Quantity] = {
    "next_token_nats": ("all", _next_token("nats")),
    "next_token_bpb": ("all", _next_token("bpb")),
    "next_token_top1": ("all", _next_token("top1")),
    "best_probe_nats": ("all", _best_probe("nats")),
    "best_probe_bpb": ("all", _best_probe("bpb")),
    "best_probe_top1": ("all", _best_probe("top1")),
    "best_probe_bits": ("all", _best_probe("bits")),
    "ceiling_top1": ("marginal", _ceiling("top1")),
    "ceiling_bits": ("marginal", _ceiling("bits")),
    "recovered": ("marginal", DomainRates.recovered),
    "recovered_adapted": ("marginal", lambda domain, k: domain.recovered(k, "marginal-adapted")),
    "forgotten_bits": ("all", DomainRates.forgotten_bits),
}
IN_BYTES = "next_token_bpb", "best_probe_bpb"

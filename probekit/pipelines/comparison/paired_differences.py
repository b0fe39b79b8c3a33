"""Differences between two runs, with intervals, paired where both scored the same positions.

Where two runs scored the same positions of the same documents, both are resampled alike, so that
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

from probekit.pipelines.analysis.finished import Run
from probekit.readout import LINEAR, MARGINAL, MARGINAL_ADAPTED, MODEL, UNIGRAM
from probekit.scoring.intervals import interval
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import ALL, DocumentSums, Rate, Rates
from probekit.scoring.specialization import DomainRates

# Seeds of the resamples that runs share, and of those of a run by itself.
SHARED_SEED, OWN_SEED = 0, 1
# Settings that determine which positions are marginalized.
DRAWN_BY = "offsets", "marginal_positions", "seed"

# Two runs are the same in a number where their difference, interval and all, is within this share
# of the interval of either by itself. The same weights times 1 + 1e-7 move losses by 3e-7 of it,
# what probes read by 2e-4 (their solver stops elsewhere) and shares by up to 1.4e-3; models that
# were trained apart differ by document, by a tenth of such an interval at least.
SAME_SHARE = 0.01

RateAtOffset = Callable[[DomainRates, int], Rate | None]


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A run that is compared.

    Attributes:
        name: Its name, of which no other compared run has the same.
        run: The run.
        sums: Its sums by document.
    """

    name: str
    run: Run
    sums: DocumentSums

    @classmethod
    def read(cls, name: str, run: Run) -> "ComparedRun":
        """Read the sums by document of a run that is to be compared.

        Raises:
            RunError: If its scores.parquet is damaged, or of a version that kept too little.
        """
        return cls(name, run, DocumentSums.read(run.documents, run.results["run"]["seed"]))

    @property
    def results(self) -> Mapping[str, Any]:
        """The content of results.json."""
        return self.run.results

    @property
    def model(self) -> Mapping[str, Any]:
        """`model` of results.json."""
        model: Mapping[str, Any] = self.results["model"]
        return model

    @property
    def settings(self) -> Mapping[str, Any]:
        """`run.settings` of results.json."""
        settings: Mapping[str, Any] = self.results["run"]["settings"]
        return settings

    @property
    def texts(self) -> dict[str, str]:
        """Digest of the text of each domain; of all together, where there are several."""
        digests = {row["domain"]: row["sha256"] for row in self.results["text"]}
        return {ALL: " ".join(digests.values()), **digests} if len(digests) > 1 else digests

    @cached_property
    def paired_rates(self) -> dict[str, DomainRates]:
        """Rates by domain, from the resamples that all runs share."""
        return self._rates(SHARED_SEED)

    @cached_property
    def unpaired_rates(self) -> dict[str, DomainRates]:
        """Rates by domain, from resamples of its own."""
        return self._rates(OWN_SEED)

    @cached_property
    def n_positions(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Number of positions by document and offset, for each domain and set of positions."""
        tests = self.sums.table[self.sums.table["split"] == "test"]
        tables = {}
        for domain in self.sums.groups:
            whole = domain == ALL and len(self.sums.groups) > 1
            in_domain = tests if whole else tests[tests["domain"] == domain]
            for positions, rows in in_domain.groupby("positions"):
                tables[domain, str(positions)] = rows.pivot_table(
                    index=["document", "domain"], columns="offset", values="n", fill_value=0
                )
        return tables

    def _rates(self, seed: int) -> dict[str, DomainRates]:
        sums, n_layers = self.sums.resampled(seed), self.model["n_layers"]
        return {name: DomainRates.of(sums, name, n_layers) for name in sums.groups}


@dataclass(frozen=True, eq=False)
class RunPair:
    """Two runs; differences are `run` minus `reference`."""

    run: ComparedRun
    reference: ComparedRun

    def differences(self) -> Iterator[dict[str, Any]]:
        """Yield `differences` of a comparison: one row a domain, offset and quantity.

        There is none where the text or the targets differ; where the tokenizers differ, only
        those of the next token in bits per byte: t+2 is then another stretch of text.
        """
        if self.run.settings["target"] != self.reference.settings["target"]:
            return
        last = min(run.settings["offsets"] for run in (self.run, self.reference))
        for domain in self.shared_domains():
            for offset in range(1, last + 1) if self.same_tokenizer else (1,):
                for name in QUANTITIES if self.same_tokenizer else IN_BYTES:
                    difference = self._difference(name, domain, offset)
                    if difference is not None:
                        yield self._key(name, domain, offset) | difference
            difference = self._nucleus_tokens(domain)
            if difference is not None:
                yield self._key("nucleus_tokens", domain, 1) | difference

    def shared_domains(self) -> list[str]:
        """Return the domains whose text is the same."""
        reference = self.reference.texts
        return [name for name, digest in self.run.texts.items() if reference.get(name) == digest]

    @property
    def same_tokenizer(self) -> bool:
        """Whether the text becomes the same tokens."""
        return bool(self.run.model["tokenizer"] == self.reference.model["tokenizer"])

    def same_positions(self, domain: str, positions: str, offset: int) -> bool:
        """Whether both runs scored the same positions of the same documents."""
        a, b = self.run, self.reference
        if not self.same_tokenizer or domain not in self.shared_domains():
            return False
        drawn = positions != "all"
        if drawn and any(a.settings[name] != b.settings[name] for name in DRAWN_BY):
            return False
        counts = [run.n_positions[domain, positions] for run in (a, b)]
        domains = [list(table.index.get_level_values("domain")) for table in counts]
        numbers = [table[offset].to_numpy() for table in counts]
        return domains[0] == domains[1] and np.array_equal(numbers[0], numbers[1])

    def _key(self, name: str, domain: str, offset: int) -> dict[str, Any]:
        return {
            "run": self.run.name,
            "reference": self.reference.name,
            "domain": domain,
            "offset": offset,
            "quantity": name,
        }

    def _difference(self, name: str, domain: str, offset: int) -> dict[str, Any] | None:
        positions, rate_of = QUANTITIES[name]
        paired = self.same_positions(domain, positions, offset)
        reference = self.reference
        rates = (reference.paired_rates if paired else reference.unpaired_rates)[domain]
        both = self.run.paired_rates[domain], rates
        a, b = (rate_of(domain_rates, offset) for domain_rates in both)
        told = (_is_told(run, name, domain, offset) for run in (self.run, reference))
        if a is None or b is None or not all(told):
            return None
        scored = [_at(positions, each) for each in both]
        value = float(a[0] - b[0])
        row: dict[str, Any] = {"positions": positions, "value": value, "paired": paired}
        if any(each.shortage for each in scored):
            return row | {"low": None, "high": None, "same": False}
        low, high = interval((a - b)[1:], min(each.effective_documents for each in scored))
        ends = [each.summary(rate)[1:] for each, rate in zip(scored, (a, b), strict=True)]
        known_to = max(top - bottom for bottom, top in ends)
        same = max(abs(low), abs(high)) <= SAME_SHARE * known_to
        return row | {"low": low, "high": high, "same": same}

    def _nucleus_tokens(self, domain: str) -> dict[str, Any] | None:
        """Return the difference of the mean number of tokens in the nucleus.

        Its sums by document are not in a run folder: the interval is made of both runs'
        intervals, as for independent runs, and so too wide where documents are the same.

        Source: Zou and Donner (2008), "Construction of confidence limits about effect
        measures: a general approach".
        """
        runs = self.run, self.reference
        if not self.same_tokenizer or len({run.settings["nucleus"] for run in runs}) > 1:
            return None
        a, b = (whole_block(run, domain) for run in runs)
        ends = [row and row["tokens_mean_low"] for row in (a, b)]
        if a is None or b is None or None in ends:
            return None
        value = a["tokens_mean"] - b["tokens_mean"]
        below = a["tokens_mean"] - a["tokens_mean_low"], b["tokens_mean_high"] - b["tokens_mean"]
        above = a["tokens_mean_high"] - a["tokens_mean"], b["tokens_mean"] - b["tokens_mean_low"]
        low, high = value - float(np.hypot(*below)), value + float(np.hypot(*above))
        found = {"value": value, "low": low, "high": high}
        return {"positions": "all", **found, "paired": False, "same": False}


def whole_block(run: ComparedRun, domain: str) -> Mapping[str, Any] | None:
    """Return the row of `branching` for all positions of the block; None if there is none."""
    rows = [row for row in run.results["branching"] if row["domain"] == domain]
    return max(rows, key=lambda row: row["positions_to"] - row["positions_from"], default=None)


def _is_told(run: ComparedRun, name: str, domain: str, offset: int) -> bool:
    """Whether a run tells a quantity itself: other resamples may put it past a threshold."""
    rows = run.results["specialization"]
    special = [row for row in rows if (row["domain"], row["offset"]) == (domain, offset)]
    return all(row.get(name, 0.0) is not None for row in special)


def _at(positions: str, domain: DomainRates) -> Rates:
    return domain.test if positions == "all" else domain.marginal


def _next_token(metric: str) -> RateAtOffset:
    def rate(domain: DomainRates, offset: int) -> Rate | None:
        if offset > 1 or not domain.test.has(MODEL, None, 1):
            return None
        return _of(domain.test, metric, MODEL, None, 1)

    return rate


def _best_probe(metric: str) -> RateAtOffset:
    def rate(domain: DomainRates, offset: int) -> Rate | None:
        return _of(domain.test, metric, LINEAR, domain.best_layer(offset), offset)

    return rate


def _ceiling(metric: str) -> RateAtOffset:
    def rate(domain: DomainRates, offset: int) -> Rate | None:
        if not domain.marginal.has(MARGINAL, None, offset):
            return None
        return _of(domain.marginal, metric, MARGINAL, None, offset)

    return rate


def _of(rates: Rates, metric: str, readout: str, layer: int | None, offset: int) -> Rate:
    if metric == "bpb":
        return rates.bpb(readout, layer, offset)
    if metric == "bits":
        floor = rates.nats(UNIGRAM, None, offset)
        return v_information_bits(floor, rates.nats(readout, layer, offset))
    return rates.rate(metric, readout, layer, offset)


# Compared quantities: the set of positions, and the rate of one run at an offset.
QUANTITIES: Mapping[str, tuple[str, RateAtOffset]] = {
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
    "recovered_adapted": ("marginal", lambda domain, k: domain.recovered(k, MARGINAL_ADAPTED)),
    "forgotten_bits": ("all", DomainRates.forgotten_bits),
}
IN_BYTES = "next_token_bpb", "best_probe_bpb"

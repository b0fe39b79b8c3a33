"""Finished runs that never were, made of scores that were made up, to be compared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from probekit.pipelines.analysis.finished import Run
from probekit.scoring.rates import DocumentSums
from probekit.scoring.specialization import DomainRates, specialization_row
from support.made_scores import DOCUMENTS, LAYERS, case

SETS = ("validation", "all"), ("test", "all"), ("test", "marginal")


@dataclass(frozen=True)
class MadeRun:
    """What a run is made of; what is not said is the same in all.

    Attributes:
        name: Its model's name.
        cells: What differs from the scores of all, as `"readout/layer/offset nats, …"`.
        millions: Parameters of its model.
        times: What every loss is multiplied by, as rounding might.
        own_noise: Nats by which documents differ for this run alone; its draw is the name's.
        facts: Other facts: `fingerprint`, `tokenizer`, `text`, `documents`, `nats_error`, `gain`
            (nats that the second half of the training text gave at t+2), or any setting.
        warnings: What the run warns of: message by code.
    """

    name: str
    cells: str = ""
    millions: float = 1.0
    times: float = 1.0
    own_noise: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> Run:
        """Return the run; nothing of it is on disk."""
        facts = {"fingerprint": self.name, "tokenizer": "512", "text": "a"} | dict(self.facts)
        sums = self._sums(facts.pop("documents", DOCUMENTS))
        error, gain = facts.pop("nats_error", 0.0), facts.pop("gain", 0.0)
        model = {
            "name": self.name, "architecture": "LlamaForCausalLM", "d_model": 8, "vocab_size": 9,
            "n_layers": LAYERS, "n_parameters": round(self.millions * 1e6), "softcap": None,
            "tokenizer": facts.pop("tokenizer"), "fingerprint": facts.pop("fingerprint"),
        }  # fmt: skip
        text = {"domain": "prose", "sha256": facts.pop("text"), "tokens": {"test": 240}}
        settings = {
            "target": "text", "offsets": 2, "marginal_positions": 64, "seed": 0, "block": 128,
            "max_tokens": 6_000, "limit": None, "site": "resid", "marginal": "sampled",
            "nucleus": 0.9, "max_branches": 64,
        }  # fmt: skip
        made = {"settings": settings | facts, "versions": {"python": "3.12"}, "seed": 0}
        made |= {"device": "cpu", "dtype": "float32", "attention": "sdpa", "separator": "eos"}
        warned = self.warnings.items()
        results = {
            "model": model,
            "run": made,
            "text": [text],
            "verdict": [],
            "warnings": [{"code": code, "message": message} for code, message in warned],
            "scores": list(_scores(sums)),
            "offsets": [],
            "specialization": [
                specialization_row(DomainRates.of(sums, "prose", LAYERS), k) for k in (1, 2)
            ],
            "marginal": [_marginal(error)],
            "branching": [],
            "learning": list(_learning(gain)) if gain else [],
        }
        run = Run(Path("runs") / self.name, results)
        run.__dict__["documents"] = sums.named()
        return run

    def _sums(self, documents: int) -> DocumentSums:
        made = case("", self.cells, noise=0.5).sums()
        table = made.table[made.table["document"] < documents].reset_index(drop=True)
        # Each readout of each run has a draw of its own, or differences would have none.
        for readout in table["readout"].unique():
            draw = np.random.default_rng(list(f"{self.name} {readout}".encode()))
            own = self.own_noise * draw.normal(size=documents)
            rows = table["readout"] == readout
            extra = (own - own.mean())[table.loc[rows, "document"]]
            table.loc[rows, "nats_sum"] += table.loc[rows, "n"] * extra
            table.loc[rows, "top1_sum"] *= 1 - extra / 4
        table["nats_sum"] *= self.times
        by_document = 1 + 0.1 * np.random.default_rng(0).normal(size=documents)
        table["top1_sum"] *= by_document[table["document"]]
        return DocumentSums(table, ["prose"] * documents, [2.0] * documents)


def _scores(sums: DocumentSums) -> Iterator[dict[str, Any]]:
    floors = {k: sums.rates("prose", "validation", "all").token_floor(k) for k in (1, 2)}
    for split, positions in SETS:
        place = {"domain": "prose", "split": split, "positions": positions, "seed": 0}
        yield from (row | place for row in sums.rates("prose", split, positions).rows(floors))


def _marginal(error: float) -> dict[str, Any]:
    counted = {"retained_mass": 0.9, "branches_mean": 9.0, "n_positions": 240}
    return counted | {"readout": "marginal", "domain": "prose", "offset": 2, "nats_error": error}


def _learning(gain: float) -> Iterator[dict[str, Any]]:
    where = {"domain": "prose", "offset": 2, "one_in": 1, "gain_nats": gain}
    read = {"layer": 1, "read_bits": 2.0, "read_gain_bits": gain}
    for positions in ("all", "marginal"):
        for role in ("best", "floor"):
            yield where | read | {"positions": positions, "role": role}

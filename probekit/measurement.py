"""What an analysis measures: probes are fitted, every readout is scored, stage by stage.

A finished stage is kept in the run folder under a fingerprint of all that could change it,
so that a run that was stopped goes on behind it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from probekit import (
    ceilings,
    lens,
    linear,
    ngram,
    probes,
    results,
    score,
    specialization,
)
from probekit.capture import Site
from probekit.ceilings import Ceiling
from probekit.checks import Check
from probekit.preparation import Material
from probekit.probes import Probes
from probekit.progress import Journal, Tracked
from probekit.readout import Readout, Seen
from probekit.settings import Settings
from probekit.shapes import Mask
from probekit.tally import ALL, Tally
from probekit.targets import Targets, draw_positions, text_targets
from probekit.text import Split

SITE_OF_MODEL: Site = "resid_post"


@dataclass(frozen=True)
class Measurement:
    """The measurements of one run.

    Attributes:
        material: What is worked on.
        settings: What was asked.
        journal: Where stages are noted.
        stages: Folder of finished stages.
        fingerprint: Of all that could change a stage.
    """

    material: Material
    settings: Settings
    journal: Journal
    stages: Path
    fingerprint: str

    @cached_property
    def probes(self) -> Probes:
        """The linear probes, fitted on train, chosen on validation."""
        path = self.path("probes.safetensors")
        if not path.exists():
            with self.journal.stage("probes"):
                self._fit(path)
        return probes.load(path, self.material.head, self.material.fingerprint)

    @cached_property
    def ceilings(self) -> list[Ceiling]:
        """The model marginalized; also with its output adapted, where that helps by much."""
        if self.settings.marginal == "off" or self.settings.offsets == 1:
            return []
        adapted = self._adapted
        return [self._ceiling("marginal"), *([] if adapted is None else [adapted])]

    @cached_property
    def tally(self) -> Tally:
        """The scores of all readouts, by document."""
        return self._tallied([ceiling.sums for ceiling in self.ceilings])

    @cached_property
    def lens_kl(self) -> dict[tuple[str, int], float]:
        """Mean KL(p_l || p_final) in nats by domain and layer, on all test positions."""
        if self.settings.site != SITE_OF_MODEL:
            return {}
        table = lens.divergences(
            self._residuals("test"),
            self.material.head,
            self.material.layers,
            self._targets["test"].valid[1],
            self.material.blocks["test"].documents,
        )
        table["domain"] = [self.material.domains[number] for number in table["document"]]
        found: dict[tuple[str, int], float] = {}
        for domain, group in [(ALL, table), *table.groupby("domain")]:
            sums = group.groupby("layer")[["kl_sum", "n"]].sum()
            means = sums["kl_sum"] / sums["n"]
            found |= {(str(domain), int(layer)): float(kl) for layer, kl in means.items()}
        return found

    def n_parameters(self, readout: str, layer: int | None, offset: int) -> int:
        """Return how many values of a readout were learned."""
        if readout == "linear" and layer is not None:
            return self.probes.probes[layer, offset].n_parameters
        unigram, skip_bigram = self._ngrams
        if readout == "unigram":
            return len(unigram.probs[offset])
        return int(skip_bigram.counts[offset].nnz) if readout == "skip-bigram" else 0

    def path(self, name: str) -> Path:
        """Return where a stage is kept."""
        return self.stages / f"{self.fingerprint[:16]}-{name}"

    @cached_property
    def _targets(self) -> dict[Split, Targets]:
        blocks = self.material.blocks
        return {part: text_targets(blocks[part], self.settings.offsets) for part in blocks}

    @cached_property
    def _positions(self) -> dict[str, Mask]:
        blocks = self.material.blocks["test"]
        drawn = draw_positions(
            blocks,
            self.material.domains,
            self.settings.offsets,
            self.settings.marginal_positions,
            self.settings.seed,
        )
        return {"all": blocks.valid(1), "marginal": drawn}

    @cached_property
    def _ngrams(self) -> tuple[ngram.Unigram, ngram.SkipBigram]:
        blocks = self.material.blocks
        train = blocks["train"].token_ids, self._targets["train"]
        validation = blocks["validation"].token_ids, self._targets["validation"]
        return ngram.fit(train, validation, self.material.head.vocab_size)

    @cached_property
    def _streams(self) -> dict[tuple[Split, Site], Iterable[Seen]]:
        return {}

    def _residuals(self, part: Split) -> Iterable[Seen]:
        """The layers to read, at the site asked for."""
        return self._stream(part, self.settings.site, self.material.layers)

    def _finals(self, part: Split) -> Iterable[Seen]:
        """The last layer of the residual stream, from which the model predicts."""
        if self.settings.site == SITE_OF_MODEL:
            return self._residuals(part)
        return self._stream(part, SITE_OF_MODEL, (self.material.head.n_layers,))

    def _stream(self, part: Split, site: Site, layers: tuple[int, ...]) -> Iterable[Seen]:
        if (part, site) not in self._streams:
            found = self.material.stream(part, layers, site)
            self._streams[part, site] = Tracked(found, f"{part} {site}")
        return self._streams[part, site]

    def _fit(self, path: Path) -> None:
        fitted = linear.fit(
            (self._residuals("train"), self._targets["train"]),
            (self._residuals("validation"), self._targets["validation"]),
            self.material.head,
            self.material.layers,
            finals=None if self.settings.site == SITE_OF_MODEL else self._finals("train"),
        )
        self.journal.note("probes", "fitted", passes=fitted.n_passes)
        notes = {
            "model_fingerprint": self.material.fingerprint,
            "site": self.settings.site,
            "norm": "z is what enters the unembedding: the model's final norm is applied first",
        }
        results.write(path, lambda temporary: probes.save(fitted, temporary, notes))

    @cached_property
    def _scores(self) -> list[pd.DataFrame]:
        """Sums by document of all readouts but the ceilings."""
        fitted, head = self.probes, self.material.head
        with self.journal.stage("scores"):
            validation = self._scored("validation", [fitted, self._ngrams[0]])
            lenses = lens.LogitLens(self.material.layers, head)
            test = self._scored("test", [lenses, fitted, *self._ngrams])
            model = self._score("test", [lens.Model(head)], self._finals("test"), self._positions)
        tables = [model.assign(split="test"), test.assign(split="test")]
        return [*tables, validation.assign(split="validation")]

    def _tallied(self, ceilings: Sequence[pd.DataFrame]) -> Tally:
        parts = [*self._scores, *(sums.assign(split="test") for sums in ceilings)]
        table = pd.concat(parts, ignore_index=True)
        material = self.material
        return Tally(table, material.domains, material.bytes_per_token, self.settings.seed)

    def _ceiling(self, name: str) -> Ceiling:
        """Return a finished stage of marginalization, finishing it first if need be."""
        table, notes = self.path(f"{name}.parquet"), self.path(f"{name}.json")
        if not notes.exists():
            with self.journal.stage(name):
                drawn = self._positions["marginal"]
                ceiling = ceilings.measure(
                    self.material, self.settings, self._targets["test"], drawn, name
                )
            results.write(table, ceiling.sums.to_parquet)
            noted = {"rows": ceiling.rows, "checks": [asdict(check) for check in ceiling.checks]}
            results.write_text(notes, json.dumps(noted))
        noted = json.loads(notes.read_text(encoding="utf-8"))
        checks = [Check(**check) for check in noted["checks"]]
        return Ceiling(pd.read_parquet(table), noted["rows"], checks)

    @property
    def _adapted(self) -> Ceiling | None:
        """The ceiling with the (L, 1) probe as output, if that probe beats the model by much."""
        head = self.material.head
        probe = self.probes.probes.get((head.n_layers, 1))
        at_output = self.settings.site == SITE_OF_MODEL and head.softcap is None
        if probe is None or not at_output:
            return None
        plain = self._tallied([])
        rates = [plain.rates(domain, "test", "all") for domain in plain.groups]
        gains = [specialization.adaptation_nats(each, head.n_layers) for each in rates]
        if not any(g is not None and g[0] > specialization.MUCH_ADAPTATION_NATS for g in gains):
            return None
        with probes.in_place_of_output(head, probe):
            return self._ceiling("marginal-adapted")

    def _scored(self, part: Split, readouts: Sequence[Readout]) -> pd.DataFrame:
        positions = self._positions if part == "test" else {"all": self._targets[part].valid[1]}
        return self._score(part, readouts, self._residuals(part), positions)

    def _score(
        self,
        part: Split,
        readouts: Sequence[Readout],
        stream: Iterable[Seen],
        positions: dict[str, Mask],
    ) -> pd.DataFrame:
        documents = self.material.blocks[part].documents
        return score.score(readouts, stream, self._targets[part], positions, documents)

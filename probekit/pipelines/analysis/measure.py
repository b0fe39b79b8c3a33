"""What an analysis measures: probes are fitted, every readout is scored, stage by stage.

A finished stage is kept in the run folder under a fingerprint of all that could change it,
so that a run that was stopped goes on behind it.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from probekit import files
from probekit.checks import Check
from probekit.data.documents import Split
from probekit.data.targets import Targets, draw_positions, text_targets
from probekit.marginalization import nucleus_size
from probekit.marginalization.greedy_targets import model_targets
from probekit.pipelines.analysis import fits, inspect_passages
from probekit.pipelines.analysis.fits import Inputs, Job
from probekit.probes import logit_lens, ngram
from probekit.probes import probe as probes
from probekit.probes.probe import Probes
from probekit.progress import Journal
from probekit.readout import Readout, Seen
from probekit.runs import ceiling as ceilings
from probekit.runs import streams
from probekit.runs.ceiling import Ceiling
from probekit.runs.setup import Setup
from probekit.runs.streams import SITE_OF_MODEL
from probekit.scoring import score, specialization
from probekit.scoring.rates import ALL, MUCH_ADAPTATION_NATS, DocumentSums
from probekit.settings import Settings
from probekit.shapes import Mask


@dataclass(frozen=True)
class Measurement:
    """The measurements of one run.

    Attributes:
        setup: What is worked on.
        settings: What was asked.
        journal: Where stages are noted.
        stages: Folder of finished stages.
        fingerprint: Of all that could change a stage.
    """

    setup: Setup
    settings: Settings
    journal: Journal
    stages: Path
    fingerprint: str

    @cached_property
    def jobs(self) -> list[Job]:
        """What is fitted, the linear probes first."""
        return list(fits.jobs(self.settings, self.setup.layers))

    @cached_property
    def fitted(self) -> dict[Job, Probes]:
        """The probes of every job, fitted on train, chosen on validation."""
        return {job: self._fitted(job) for job in self.jobs}

    @property
    def probes(self) -> Probes:
        """The linear probes."""
        return self.fitted[self.jobs[0]]

    @cached_property
    def ceilings(self) -> list[Ceiling]:
        """The model marginalized; also with its output adapted, where that helps by much."""
        if not ceilings.wanted(self.settings):
            return []
        adapted = self._adapted
        readouts = [p for job, p in self.fitted.items() if job.name not in fits.CONTROLS]
        lenses = logit_lens.LogitLens(self.setup.layers, self.setup.anatomy)
        plain = self._ceiling("marginal", [lenses, *readouts])
        return [plain, *([] if adapted is None else [adapted])]

    @cached_property
    def sums(self) -> DocumentSums:
        """The scores of all readouts, by document."""
        return self._tallied(self.ceilings)

    @cached_property
    def lens_kl(self) -> dict[tuple[str, int], float]:
        """Mean KL(p_l || p_final) in nats by domain and layer, on all test positions."""
        if self.settings.site != SITE_OF_MODEL:
            return {}
        stream, setup = self._streams.read("test"), self.setup
        valid, documents = self._targets["test"].valid[1], setup.blocks["test"].documents
        table = logit_lens.divergences(stream, setup.anatomy, setup.layers, valid, documents)
        table["domain"] = [setup.domains[number] for number in table["document"]]
        found: dict[tuple[str, int], float] = {}
        for domain, group in [(ALL, table), *table.groupby("domain")]:
            sums = group.groupby("layer")[["kl_sum", "n"]].sum()
            means = sums["kl_sum"] / sums["n"]
            found |= {(str(domain), int(layer)): float(kl) for layer, kl in means.items()}
        return found

    @cached_property
    def branching(self) -> list[dict[str, Any]]:
        """Rows of `branching` in results.json: how many tokens the next one might be."""
        setup, settings = self.setup, self.settings
        stream, blocks = self._streams.finals("test"), setup.blocks["test"]
        with self.journal.stage("branching"):
            table = nucleus_size.count(stream, setup.anatomy, blocks, settings.nucleus)
        found = nucleus_size.spreads(table, setup.domains, len(blocks.token_ids[0]), settings.seed)
        return [spread.row(settings.nucleus) for spread in found]

    @cached_property
    def codelength(self) -> list[dict[str, Any]]:
        """Rows of `codelength` in results.json: the linear probes' online codelength."""
        if not self.settings.codelength:
            return []
        job, seed = self.jobs[0], self.settings.seed
        found: list[dict[str, Any]] = self._kept(
            "codelength",
            lambda: fits.send(job, self._inputs, seed).to_json(orient="records"),
        )
        return found

    @cached_property
    def passages(self) -> dict[str, Any]:
        """Content of passages.json: what readouts say at each token of a few test passages."""
        targets = self._targets["test"]

        def inspected() -> str:
            found = inspect_passages.inspect(self.setup, self.settings, targets, self.fitted)
            return files.as_json(found, indent=None)

        found: dict[str, Any] = self._kept("passages", inspected)
        return found

    @property
    def families(self) -> list[str]:
        """Names of the probe families that were fitted."""
        return list(dict.fromkeys(job.name for job in self.jobs if job.name == job.family))

    def job(self, readout: str) -> Job | None:
        """Return the first fit of a readout, None if nothing was fitted for it."""
        return next((job for job in self.jobs if job.name == readout), None)

    def n_parameters(self, readout: str, layer: int | None, offset: int) -> int:
        """Return how many values of a readout were learned."""
        job = self.job(readout)
        if job is not None:
            return self.fitted[job].probes[layer, offset].n_parameters
        unigram, skip_bigram = self._ngrams
        if readout == "unigram":
            return len(unigram.probs[offset])
        return int(skip_bigram.counts[offset].nnz) if readout == "skip-bigram" else 0

    def path(self, name: str) -> Path:
        """Return where a stage is kept."""
        return self.stages / f"{self.fingerprint[:16]}-{name}"

    def _kept(self, name: str, measured: Callable[[], str]) -> Any:
        """Return the JSON of a finished stage, finishing it first if need be."""
        path = self.path(f"{name}.json")
        if not path.exists():
            with self.journal.stage(name):
                files.write_text(path, measured())
        return json.loads(path.read_text(encoding="utf-8"))

    @cached_property
    def _streams(self) -> streams.Streams:
        return streams.Streams(self.setup, self.setup.layers, self.settings.site)

    @cached_property
    def _targets(self) -> dict[Split, Targets]:
        blocks, horizon = self.setup.blocks, self.settings.offsets
        if self.settings.target == "text":
            return {part: text_targets(blocks[part], horizon) for part in blocks}
        engine = self.setup.branches()
        with self.journal.stage("model targets"):
            return {part: model_targets(engine, blocks[part], horizon) for part in blocks}

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs(self._streams, self._targets)

    @cached_property
    def _positions(self) -> dict[str, Mask]:
        blocks, asked = self.setup.blocks["test"], self.settings
        most, seed = asked.marginal_positions, asked.seed
        drawn = draw_positions(blocks, self.setup.domains, asked.offsets, most, seed)
        return {"all": blocks.valid(1), "marginal": drawn}

    @cached_property
    def _ngrams(self) -> tuple[ngram.Unigram, ngram.SkipBigram]:
        blocks = self.setup.blocks
        train = blocks["train"].token_ids, self._targets["train"]
        validation = blocks["validation"].token_ids, self._targets["validation"]
        return ngram.fit(train, validation, self.setup.anatomy.vocab_size)

    @cached_property
    def _job_inputs(self) -> dict[Job, Inputs]:
        shares = self._ngrams[0].probs
        return {job: fits.inputs_of(job, self._inputs, shares) for job in self.jobs}

    def _fitted(self, job: Job) -> Probes:
        """Return the probes of a finished fit, finishing it first if need be."""
        path, inputs = self.path(f"{job.label}.safetensors"), self._job_inputs[job]
        if not path.exists():
            with self.journal.stage(job.label):
                self._fit(job, inputs, path)
        return probes.load(path, inputs.streams.setup.anatomy, self.setup.fingerprint)

    def _fit(self, job: Job, inputs: Inputs, path: Path) -> None:
        fitted = fits.fit(job, inputs)
        self.journal.note(job.label, "fitted", passes=fitted.n_passes)
        notes = {
            "model_fingerprint": self.setup.fingerprint,
            "site": self.settings.site,
            "seed": str(job.seed),
            "norm": "z is what enters the unembedding: the model's final norm is applied first",
        }
        files.write(path, lambda temporary: probes.save(fitted, temporary, notes))

    @cached_property
    def _scores(self) -> pd.DataFrame:
        """Sums by document of all readouts but the ceilings."""
        fitted, anatomy = self.fitted, self.setup.anatomy
        own = self._inputs
        with self.journal.stage("scores"):
            lenses = [logit_lens.LogitLens(self.setup.layers, anatomy)]
            tables = [
                self._score("test", [logit_lens.Model(anatomy)], self._streams.finals("test"), own),
                self._score("test", lenses, self._streams.read("test"), own),
            ]
            for part in ("validation", "test"):
                tables.append(self._score(part, self._ngrams, self._streams.read(part), own))
                for job, readout in fitted.items():
                    inputs = self._job_inputs[job]
                    table = self._score(part, [readout], inputs.streams.read(part), inputs)
                    tables.append(table.assign(seed=job.seed))
        return pd.concat(tables, ignore_index=True).fillna({"seed": self.settings.seed})

    def _score(
        self, part: Split, readouts: Sequence[Readout], stream: Iterable[Seen], inputs: Inputs
    ) -> pd.DataFrame:
        targets, documents = inputs.targets[part], self.setup.blocks[part].documents
        positions = self._positions if part == "test" else {"all": documents >= 0}
        return score.score(readouts, stream, targets, positions, documents).assign(split=part)

    def _tallied(self, ceilings: Sequence[Ceiling]) -> DocumentSums:
        table, setup, seed = self._scores, self.setup, self.settings.seed
        for ceiling in ceilings:
            table = ceiling.compared_with(table, seed)
        parts = [table, *(ceiling.own_rows.assign(split="test", seed=seed) for ceiling in ceilings)]
        whole = pd.concat(parts, ignore_index=True)
        return DocumentSums(whole, setup.domains, setup.bytes_per_token, seed)

    def _ceiling(self, name: str, compared: Sequence[Readout] = ()) -> Ceiling:
        """Return a finished stage of marginalization, finishing it first if need be."""
        table, notes = self.path(f"{name}.parquet"), self.path(f"{name}.json")
        if not notes.exists():
            with self.journal.stage(name):
                drawn, targets = self._positions["marginal"], self._targets["test"]
                plan = ceilings.Asked(name, self._streams, targets, drawn, compared)
                ceiling = ceilings.measure(self.setup, self.settings, plan)
            files.write(table, ceiling.table.to_parquet)
            noted = {"rows": ceiling.rows, "checks": [asdict(check) for check in ceiling.checks]}
            files.write_text(notes, json.dumps(noted))
        noted = json.loads(notes.read_text(encoding="utf-8"))
        checks = [Check(**check) for check in noted["checks"]]
        return Ceiling(name, pd.read_parquet(table), noted["rows"], checks)

    @property
    def _adapted(self) -> Ceiling | None:
        """The ceiling with the (L, 1) probe as output, if that probe beats the model by much."""
        anatomy = self.setup.anatomy
        probe = self.probes.probes.get((anatomy.n_layers, 1))
        at_output = self.settings.site == SITE_OF_MODEL and anatomy.softcap is None
        if probe is None or not at_output:
            return None
        plain = self._tallied([])
        rates = [plain.rates(domain, "test", "all") for domain in plain.groups]
        gains = [specialization.adaptation_nats(each, anatomy.n_layers) for each in rates]
        if not any(g is not None and g[0] > MUCH_ADAPTATION_NATS for g in gains):
            return None
        with probes.in_place_of_output(anatomy, probe):
            return self._ceiling("marginal-adapted")

"""What an analysis measures, stage by stage: probes, scores, the model marginalized.

A finished stage is kept in the run folder, so that a run that was stopped continues after it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch

from probekit.data.documents import Split
from probekit.data.targets import Targets, read_targets, text_targets, write_targets
from probekit.marginalization import nucleus_size
from probekit.marginalization.greedy_targets import model_targets
from probekit.pipelines.analysis import causality, ceilings, fits, learning
from probekit.pipelines.analysis.breakdown import Rows, break_down
from probekit.pipelines.analysis.fits import Fit, Inputs
from probekit.pipelines.analysis.inspection import inspect_passages
from probekit.pipelines.analysis.scores import sites
from probekit.pipelines.analysis.scores.scorer import ORDER, Scorer
from probekit.probes import ngram
from probekit.probes.controls import kept_share
from probekit.probes.logit_lens import divergences
from probekit.probes.ngram import SkipBigram, Unigram
from probekit.probes.probe import Probes
from probekit.readout import JACOBIAN_LENS, SKIP_BIGRAM, UNIGRAM
from probekit.runs.ceiling import Ceiling, scored_positions, wanted
from probekit.runs.setup import Setup
from probekit.runs.stages import Stages
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.scoring.rates import ALL, DocumentSums
from probekit.settings import Settings

KlByLayer = Mapping[tuple[str, int], float]  # by domain and layer


@dataclass(frozen=True)
class Measured:
    """The measurements of one run.

    Attributes:
        setup: Model and text.
        settings: The settings.
        probes: The probes of every fit, the linear ones first.
        ngrams: The counted floors.
        sums: The scores of all readouts, by document.
        ceilings: The model marginalized; also with its output adapted, where that helps by much.
        lens_kl: Mean KL(p_l || p_final) in nats by domain and layer, on all test positions.
        breakdown: Rows of `calibration` and `classes` in results.json.
        nucleus_sizes: Rows of `branching` in results.json: how many tokens the next might be.
        codelength: Rows of `codelength` in results.json.
        causal: Rows of `causal` in results.json.
        sites: What was measured at further places in a block.
        learning: Rows of `learning` in results.json.
        passages: Content of passages.json.
        kept: By offset, the share of training positions where permuting leaves a target alone.
    """

    setup: Setup
    settings: Settings
    probes: Mapping[Fit, Probes]
    ngrams: tuple[Unigram, SkipBigram]
    sums: DocumentSums
    ceilings: Sequence[Ceiling]
    lens_kl: KlByLayer
    nucleus_sizes: list[dict[str, Any]]
    breakdown: Rows
    codelength: list[dict[str, Any]]
    causal: list[dict[str, Any]]
    sites: sites.Sites
    learning: list[dict[str, Any]]
    passages: dict[str, Any]
    kept: Mapping[int, float]

    @property
    def ceiling_errors(self) -> dict[int, float]:
        """By offset, the standard error in nats of the ceiling to go by, over all domains."""
        rows = self.ceilings[-1].rows if self.ceilings else []  # the adapted one is the last
        first = self.sums.groups[0]
        return {row["offset"]: row["nats_error"] for row in rows if row["domain"] == first}

    @property
    def families(self) -> list[str]:
        """Names of the probe families that were fitted."""
        return list(dict.fromkeys(fit.name for fit in self.probes if fit.name == fit.family))

    def fit_of(self, readout: str) -> Fit | None:
        """Return the first fit of a readout, None if nothing was fitted for it."""
        return next((fit for fit in self.probes if fit.name == readout), None)

    def n_parameters(self, readout: str, layer: int | None, offset: int) -> int:
        """Return how many values of a readout were learned."""
        fit = self.fit_of(readout)
        if fit is not None:
            return self.probes[fit].probes[layer, offset].n_parameters
        unigram, skip_bigram = self.ngrams
        if readout == JACOBIAN_LENS:
            return self.setup.anatomy.d_model**2 if layer != self.setup.anatomy.n_layers else 0
        if readout == UNIGRAM:
            return len(unigram.probs[offset])
        return int(skip_bigram.counts[offset].nnz) if readout == SKIP_BIGRAM else 0

    def converged(self, readout: str, layer: int | None, offset: int) -> bool | None:
        """Return whether a probe converged, None for a readout that was not fitted."""
        fit = self.fit_of(readout)
        return None if fit is None else self.probes[fit].probes[layer, offset].converged


@torch.no_grad()
def measure(setup: Setup, settings: Settings, stages: Stages) -> Measured:
    """Fit every probe, score every readout, marginalize the model.

    Args:
        setup: Model and text.
        settings: What is measured.
        stages: What is finished already, and where what is finished now is kept.
    """
    own = tuple(sorted({*stages.ranks.share(setup.layers), setup.anatomy.n_layers}))
    inputs = Inputs(Streams(setup, own, settings.sites[0]), _targets(setup, settings, stages))
    ngrams, positions = _ngrams(inputs), scored_positions(setup, settings)
    planned = list(fits.planned(settings, setup.layers, setup.plan.another))
    scored = partial(Scorer(inputs, positions, stages, settings).table, ngrams, planned)
    scores = stages.shared_table("scores", scored, ORDER).drop(columns="turn")
    # As it was scored: where a run goes on, there may be more room than there was.
    names = set(scores["readout"])
    planned = [fit for fit in fits.planned(settings, setup.layers) if fit.name in names]
    probes = {fit: fits.recall(fit, setup.anatomy, setup, stages) for fit in planned}
    marginalized = ceilings.marginalize_run(
        inputs, settings, probes, scores, stages, positions["marginal"]
    )
    sums = ceilings.sums(setup, settings, scores, marginalized)
    whole = probes[planned[0]], ngrams[1]  # the linear probes are planned first
    next_tokens = _next_tokens(inputs, settings, stages)
    broken_down = partial(break_down, inputs, whole, sums, marginalized, next_tokens)
    passages = partial(inspect_passages.inspect, setup, settings, inputs.targets["test"], probes)
    return Measured(
        setup=setup,
        settings=settings,
        probes=probes,
        ngrams=ngrams,
        sums=sums,
        ceilings=marginalized,
        codelength=_codelength(inputs, settings, stages),
        causal=causality.measured(inputs, settings, sums, whole[0], ngrams[0], stages),
        sites=sites.measured(inputs, settings, positions, scores, stages),
        learning=learning.measured(inputs, settings, sums, whole, positions["all"], stages),
        passages=stages.json("passages", passages),
        lens_kl=_lens_kl(inputs, stages),
        kept=_kept(inputs),
        nucleus_sizes=_nucleus_sizes(setup, settings, next_tokens),
        breakdown=stages.json("breakdown", broken_down),
    )


def stage_count(setup: Setup, settings: Settings) -> int:
    """Return how many stages a run has, where no ceiling with an adapted output is needed."""
    always = 7  # prepare, scores, branching, learning, passages, breakdown, report
    sometimes = (
        wanted(settings),
        settings.codelength,
        settings.causal != "none",
        settings.target == "model",
        settings.sites[0] == SITE_OF_MODEL,
    )
    return (
        len(list(fits.planned(settings, setup.layers, setup.plan.another)))
        + always
        + 2 * len(settings.sites[1:])  # the fits and scores of each
        + sum(sometimes)
    )


def _targets(setup: Setup, settings: Settings, stages: Stages) -> dict[Split, Targets]:
    blocks, horizon = setup.blocks, settings.offsets
    if settings.target == "text":
        return {split: text_targets(blocks[split], horizon) for split in blocks}

    def continued() -> dict[Split, Targets]:
        engine = setup.branches()
        return {split: model_targets(engine, blocks[split], horizon) for split in blocks}

    path = stages.file("targets.safetensors", continued, write_targets, "model targets")
    return read_targets(path)


def _ngrams(inputs: Inputs) -> tuple[Unigram, SkipBigram]:
    setup, targets = inputs.streams.setup, inputs.targets
    train = setup.blocks["train"].token_ids, targets["train"]
    validation = setup.blocks["validation"].token_ids, targets["validation"]
    return ngram.fit(train, validation, setup.anatomy.vocab_size)


def _lens_kl(inputs: Inputs, stages: Stages) -> KlByLayer:
    if inputs.streams.site != SITE_OF_MODEL:
        return {}
    setup, stream = inputs.streams.setup, inputs.streams.read("test")
    valid, documents = inputs.targets["test"].valid[1], setup.blocks["test"].documents
    own = stages.ranks.share(setup.layers)
    diverged = partial(divergences, stream, setup.anatomy, own, valid, documents)
    table = stages.shared_table("lens divergence", diverged, ["layer", "document"])
    table["domain"] = [setup.domains[number] for number in table["document"]]
    kl_by_layer: dict[tuple[str, int], float] = {}
    for domain, group in [(ALL, table), *table.groupby("domain")]:
        sums = group.groupby("layer")[["kl_sum", "n"]].sum()
        means = sums["kl_sum"] / sums["n"]
        kl_by_layer |= {(str(domain), int(layer)): float(kl) for layer, kl in means.items()}
    return kl_by_layer


def _kept(inputs: Inputs) -> dict[int, float]:
    token_ids = inputs.streams.setup.blocks["train"].token_ids
    return {k: kept_share(valid, token_ids) for k, valid in inputs.targets["train"].valid.items()}


def _next_tokens(inputs: Inputs, settings: Settings, stages: Stages) -> pd.DataFrame:
    setup, stream = inputs.streams.setup, inputs.streams.finals("test")
    blocks = setup.blocks["test"]
    count = partial(nucleus_size.count, stream, setup.anatomy, blocks, settings.nucleus)
    return stages.table("branching", count)


def _nucleus_sizes(setup: Setup, settings: Settings, table: pd.DataFrame) -> list[dict[str, Any]]:
    length = setup.blocks["test"].token_ids.shape[1]
    spreads = nucleus_size.spreads(table, setup.domains, length, settings.seed)
    return [spread.row(settings.nucleus) for spread in spreads]


def _codelength(inputs: Inputs, settings: Settings, stages: Stages) -> list[dict[str, Any]]:
    """Return the linear probes' online codelength, if it is wanted."""
    if not settings.codelength:
        return []

    own = stages.ranks.share(inputs.streams.setup.layers)

    def measured() -> pd.DataFrame:
        return fits.online_codelength(inputs, own, settings.seed) if own else pd.DataFrame()

    table = stages.shared_table("codelength", measured, ["layer", "offset"])
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return rows

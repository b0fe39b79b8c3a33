"""Measure texts with known answers: every kind of number of a report beside its exact value.

Each text has a closed form and a model that knows it. It goes through the steps of an analysis:
blocks, residual stream, probes and marginalization, one scorer, findings.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from scipy.stats import binom
from torch import nn

from probekit.data.blocks import Blocks
from probekit.data.documents import Split
from probekit.data.targets import Targets, text_targets
from probekit.marginalization.importance import GROUPS
from probekit.models.anatomy import Anatomy
from probekit.pipelines.analysis.verdict import findings
from probekit.pipelines.calibration.hidden_markov import mess3
from probekit.pipelines.calibration.known_text import HORIZON, LENGTH, KnownTextRun
from probekit.pipelines.calibration.markov import Exact, MarkovChain
from probekit.pipelines.calibration.planted_signal import Planted
from probekit.pipelines.calibration.result import CalibrationResult
from probekit.probes import linear
from probekit.readout import LINEAR, MARGINAL, MODEL, SKIP_BIGRAM, UNIGRAM, Readout, Seen
from probekit.scoring.losses import losses, v_information_bits
from probekit.scoring.rates import Rate, Rates

# Of 6 tokens, 36 pairs and 216 triples.
KEPT_PATHS, SAMPLED_PATHS = 8, 4
NUCLEI = (0.5, 0.8, 0.95, 0.99)
# Rounding that float32 may add to an exact bound.
ROUNDING = 1e-6
LOG_PROBABILITY_NATS = 1e-5
FITTED_NATS = 0.01
# Sequences of a hidden process for training, validation and test.
BELIEF_SEQUENCES = 1500, 500, 2000
BELIEF_NATS = 0.002
FITTED_BITS = FITTED_NATS / math.log(2)


def calibrate(seed: int = 0) -> list[CalibrationResult]:
    """Measure texts with known answers; a minute or so on two cores.

    Args:
        seed: Seed of texts and positions.
    """
    return [*_chain(seed), *_planted(seed), *_beliefs(seed)]


def lines(results: Sequence[CalibrationResult]) -> list[str]:
    """Return the results as lines of a plain-text table."""
    head = f"{'':8}{'text':24}{'number':50}{'measured':>10}{'exact':>10}  interval or allowed"
    table = [head]
    for row in results:
        name = row.quantity if row.offset is None else f"t+{row.offset}: {row.quantity}"
        outcome = "ok" if row.agrees else "FAILED" if row.bounded else "outside"
        numbers = f"{row.measured:>10.4g}{row.exact:>10.4g}  {row.ends}"
        table.append(f"{outcome:8}{row.text:24}{name:50}{numbers}")
    return [*table, verdict(results)]


def verdict(results: Sequence[CalibrationResult]) -> str:
    """Count the intervals that hold the exact value, and those that may miss it by chance."""
    intervals = [row for row in results if not row.bounded]
    holding, n = sum(row.agrees for row in intervals), len(intervals)
    allowed = most_outside(n)
    return (
        f"{holding} of {n} intervals of 95 % hold the exact value; {allowed} may miss it by chance."
    )


def passed(results: Sequence[CalibrationResult]) -> bool:
    """Whether every allowed range holds, and no more intervals miss than chance explains."""
    outside = [row for row in results if not row.agrees]
    intervals = sum(not row.bounded for row in results)
    return not any(row.bounded for row in outside) and len(outside) <= most_outside(intervals)


def most_outside(n: int) -> int:
    """Return how many of n intervals of 95 % may miss: more would in one of 1,000 runs."""
    return int(binom.ppf(0.999, n, 0.05))


def _beside(
    run: KnownTextRun, rates: Rates, rate: Rate, quantity: str, offset: int, exact: float
) -> CalibrationResult:
    """Return a rate with its interval beside its exact value."""
    measured, low, high = rates.summary(rate)
    return CalibrationResult(run.name, quantity, offset, measured, exact, low, high)


def _at_most(
    run: KnownTextRun, quantity: str, offset: int | None, measured: float, most: float
) -> CalibrationResult:
    """Return an error, exactly 0, beside the largest that is allowed."""
    return CalibrationResult(run.name, quantity, offset, measured, 0.0, 0.0, most, bounded=True)


def _chain(seed: int) -> Iterator[CalibrationResult]:
    """Yield the results of a Markov chain whose next token depends on the last two."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(6, 6, 6, generator=generator, dtype=torch.float64).pow(3) + 0.01
    text = MarkovChain(weights / weights.sum(dim=2, keepdim=True))
    run = KnownTextRun("Markov chain, order 2", text, seed)
    yield from _log_probabilities(run, text)
    yield from _sampled(run, text)
    sums = run.measure()
    marginalized, everywhere = (
        sums.rates(run.name, "test", positions) for positions in ("marginal", "all")
    )
    last = run.anatomy.n_layers
    for offset in range(1, HORIZON + 1):
        exact = text.exact(offset)
        yield from _ceiling(run, marginalized, offset, exact)
        for name, layer, exact_nats in (
            (LINEAR, last, exact.nats),
            (SKIP_BIGRAM, None, exact.skip_bigram_nats),
            (UNIGRAM, None, exact.unigram_nats),
        ):
            nats = everywhere.nats(name, layer, offset)
            result = _beside(run, everywhere, nats, f"{name}, nats", offset, exact_nats)
            yield replace(result, slack=FITTED_NATS)


def _ceiling(
    run: KnownTextRun, rates: Rates, offset: int, exact: Exact
) -> Iterator[CalibrationResult]:
    """Yield the rates of the model, marginalized beyond the next token, at one offset."""
    name = MODEL if offset == 1 else MARGINAL
    nats = rates.nats(name, None, offset)
    bits = v_information_bits(rates.nats(UNIGRAM, None, offset), nats)
    yield _beside(run, rates, nats, f"{name}, nats", offset, exact.nats)
    yield _beside(run, rates, bits, f"{name}, bits over the unigram", offset, exact.bits)
    for metric, accuracy in (("top1", exact.top1), ("top5", exact.top5)):
        hits = rates.rate(metric, name, None, offset)
        yield _beside(run, rates, hits, f"{name}, {metric}", offset, accuracy)


def _log_probabilities(run: KnownTextRun, text: MarkovChain) -> Iterator[CalibrationResult]:
    """Yield the largest error of a marginal, and how often one leaves its bounds."""
    seen = next(iter(run.streams["test"]))
    positions = run.marginalized[seen.blocks]
    valid = dict.fromkeys(range(2, HORIZON + 1), positions)
    states = text.states(seen.token_ids)[positions]
    n_outside = 0
    for nucleus in (1.0, *NUCLEI):
        readout = run.ceiling(nucleus)
        for cell, logits in readout.predict(seen, valid):
            probs, exact = logits.double().exp(), text.conditional(cell.offset)[states]
            if nucleus == 1.0:
                error = float((probs.log() - exact.log()).abs().max())
                name = "largest error of a marginal, nats"
                yield _at_most(run, name, cell.offset, error, LOG_PROBABILITY_NATS)
                continue
            retained = [r.retained_mass for r in readout.records if r.offset == cell.offset]
            # probs are normalized by the retained mass; the rest may belong to any token.
            mass = torch.tensor(retained, dtype=torch.float64)[:, None]
            low, high = probs * mass - ROUNDING, probs * mass + (1 - mass) + ROUNDING
            n_outside += int(((exact < low) | (exact > high)).any(dim=1).sum())
    name = f"positions out of bounds at nuclei {NUCLEI}"
    yield _at_most(run, name, None, float(n_outside), 0.0)


def _sampled(run: KnownTextRun, text: MarkovChain) -> Iterator[CalibrationResult]:
    """Yield what the ceiling by few sampled paths is off, beside three of its own errors."""
    table = run.sampled(KEPT_PATHS, SAMPLED_PATHS)
    for offset, rows in table.groupby("offset"):
        block, at = (torch.tensor(rows[name].tolist()) for name in ("block", "position"))
        state = text.states(run.blocks["test"].token_ids)[block, at]
        target = run.targets["test"].ids[int(str(offset))][block, at]
        exact = -text.conditional(int(str(offset)))[state, target].log()
        off = float(rows["nats"].mean()) - float(exact.mean())
        error = LOG_PROBABILITY_NATS + 3 * math.sqrt(rows["variance"].sum()) / len(rows)
        paths = f"{KEPT_PATHS} paths and {GROUPS} x {SAMPLED_PATHS} sampled"
        name = f"ceiling by {paths} less exact, nats"
        yield CalibrationResult(
            run.name, name, int(str(offset)), off, 0.0, -error, error, bounded=True
        )


def _planted(seed: int) -> Iterator[CalibrationResult]:
    """Yield the results of a model of which some layers alone foresee a token."""
    text = Planted()
    run = KnownTextRun("planted signal", text, seed)
    sums = run.measure()
    rates, last = sums.rates(run.name, "test", "all"), run.anatomy.n_layers
    rows = {row["offset"]: row for row in findings(sums, last, HORIZON).rows}
    for offset in (1, 2):
        layers = text.best_layers(offset)
        yield _layer(run, "best layer", offset, rows[offset]["best_layer"], layers)
    best = text.best_layers(2)[0]
    for layer in (best, last):
        nats = rates.nats(LINEAR, layer, 2)
        result = _beside(run, rates, nats, f"linear at layer {layer}, nats", 2, text.nats(layer, 2))
        yield replace(result, slack=FITTED_NATS)
    hits = rates.rate("top1", LINEAR, best, 2)
    yield _beside(run, rates, hits, f"linear at layer {best}, top1", 2, text.top1(best, 2))
    exact_bits = text.forgotten_bits(2)
    result = _finding(run, rows[2], "forgotten_bits", "forgotten, bits", exact_bits)
    yield replace(result, slack=FITTED_BITS)
    chance_nats = math.log(text.n_tokens)
    for offset in (2, 3):
        readable = chance_nats - text.nats(text.best_layers(offset)[0], offset)
        foreseen = chance_nats - text.ceiling_nats(offset)
        exact = readable / foreseen
        result = _finding(run, rows[offset], "recovered", "recovered, share", exact)
        yield replace(result, slack=FITTED_NATS / foreseen)
    first = text.best_layers(1)[0]
    saturation = rows[1]["saturation_layer"]
    yield _layer(run, "lens saturates at layer", 1, saturation, range(first, first + 1))
    yield _shuffled(run, text)


def _layer(
    run: KnownTextRun, quantity: str, offset: int, layer: int, allowed: range
) -> CalibrationResult:
    """Return the layer found beside the range of right layers; the first is the exact one."""
    low, high = float(allowed[0]), float(allowed[-1])
    return CalibrationResult(run.name, quantity, offset, float(layer), low, low, high, bounded=True)


def _finding(
    run: KnownTextRun, row: Mapping[str, Any], column: str, quantity: str, exact: float
) -> CalibrationResult:
    """Return a finding with its interval, of a row of `specialization`, beside its exact value."""
    ends = row[f"{column}_low"], row[f"{column}_high"]
    return CalibrationResult(run.name, quantity, int(row["offset"]), row[column], exact, *ends)


def _shuffled(run: KnownTextRun, text: Planted) -> CalibrationResult:
    """Return the bits that a probe of the planted layer reads of shuffled labels: 0."""
    generator = torch.Generator().manual_seed(run.seed)
    shuffled: dict[Split, Targets] = {}
    for split, targets in run.targets.items():
        ids, valid = targets.ids[2].clone(), targets.valid[2]
        labels = ids[valid]
        ids[valid] = labels[torch.randperm(len(labels), generator=generator)]
        shuffled[split] = Targets("shuffled", {2: ids}, {2: valid})
    layer = text.best_layers(2)[0]
    readouts: list[Readout] = [run.probes(shuffled), run.ngrams(shuffled)[0]]
    sums = run.sums(run.score("test", readouts, shuffled))
    rates = sums.rates(run.name, "test", "all")
    bits = v_information_bits(rates.nats(UNIGRAM, None, 2), rates.nats(LINEAR, layer, 2))
    quantity = f"linear at layer {layer}, shuffled labels, bits"
    return replace(_beside(run, rates, bits, quantity, 2, 0.0), slack=FITTED_BITS)


def _beliefs(seed: int) -> Iterator[CalibrationResult]:
    """Yield the excess loss of a linear probe on the exact belief state of a hidden process."""
    process = mess3()
    identity = nn.Linear(3, 3, bias=False)
    identity.weight.data = torch.eye(3)
    anatomy = Anatomy(nn.Identity(), (nn.Identity(),), (), identity, d_model=3)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for n in BELIEF_SEQUENCES:
        token_ids = process.sample(n, LENGTH, generator)
        resid = {1: process.beliefs(token_ids).float()}
        blocks = Blocks(token_ids, torch.arange(n)[:, None].expand(n, LENGTH))
        parts.append(([Seen(token_ids, resid)], text_targets(blocks, HORIZON)))
    train, validation, ([seen], targets) = parts
    probes = linear.fit(train, validation, anatomy, [1])
    for cell, logits in probes.predict(seen, targets.valid):
        tokens = targets.ids[cell.offset][targets.valid[cell.offset]]
        nats = losses(logits, tokens).nats.double().mean()
        excess = float(nats - process.nats(seen.token_ids, cell.offset).mean())
        name = "probe of the exact belief, nats above Bayes"
        # A softmax of a linear map is not quite the best: it misses about 0.001.
        yield CalibrationResult(
            "Mess3", name, cell.offset, excess, 0.0, -BELIEF_NATS, BELIEF_NATS, bounded=True
        )

"""The instrument held against known answers: measured beside exact, number by number.

Each text has a closed form and a model that knows it. They go the way that an analysis goes:
blocks, residual stream, probes and marginalization, one scorer, findings. Every kind of
number that a report shows is then compared with what it must be.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import binom
from torch import nn

from probekit.data.blocks import Blocks
from probekit.data.documents import Split
from probekit.data.targets import Targets, text_targets
from probekit.models.anatomy import Anatomy
from probekit.pipelines.calibration.hidden_markov import mess3
from probekit.pipelines.calibration.known_text import HORIZON, LENGTH, Rehearsal
from probekit.pipelines.calibration.markov import MarkovChain
from probekit.pipelines.calibration.planted_signal import Planted
from probekit.probes import linear
from probekit.readout import Readout, Seen
from probekit.scoring.losses import losses, v_information_bits
from probekit.scoring.rates import Rate, Rates

NUCLEI = (0.5, 0.8, 0.95, 0.99)
# What float32 may add to a bound that is exact.
ROUNDING = 1e-6
LOG_PROBABILITY_NATS = 1e-5
FITTED_NATS = 0.01
# Sequences of a hidden process for training, validation and test.
BELIEVED = 1500, 500, 2000
BELIEF_NATS = 0.002
FITTED_BITS = FITTED_NATS / math.log(2)


@dataclass(frozen=True)
class Comparison:
    """One number beside what it must be.

    Attributes:
        text: Which text.
        quantity: What was measured, with its unit.
        offset: Offset, None where there is none.
        measured: The number.
        exact: What it must be.
        low: Lower end of its 95 % interval, or of what is allowed.
        high: Upper end.
        bounded: Whether low and high are what is allowed, and no interval.
        slack: What a fitted readout, which saw finitely many positions, may miss of it.
    """

    text: str
    quantity: str
    offset: int | None
    measured: float
    exact: float
    low: float
    high: float
    bounded: bool = False
    slack: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the exact value is in the interval, or the measured one is allowed."""
        value = self.measured if self.bounded else self.exact
        return self.low - self.slack <= value <= self.high + self.slack

    @property
    def ends(self) -> str:
        """Interval or what is allowed, in words."""
        slack = f" ± {self.slack:.2g}" if self.slack else ""
        return f"[{self.low:.4g}, {self.high:.4g}]{' allowed' if self.bounded else ''}{slack}"


def calibrate(seed: int = 0) -> list[Comparison]:
    """Measure texts with known answers; a minute or so on two cores.

    Args:
        seed: Seed of texts and positions.
    """
    return [*_chain(seed), *_planted(seed), *_beliefs(seed)]


def lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the comparisons as lines of a plain-text table."""
    head = f"{'':8}{'text':24}{'number':50}{'measured':>10}{'exact':>10}  interval or allowed"
    found = [head]
    for row in comparisons:
        name = row.quantity if row.offset is None else f"t+{row.offset}: {row.quantity}"
        outcome = "ok" if row.agrees else "FAILED" if row.bounded else "outside"
        numbers = f"{row.measured:>10.4g}{row.exact:>10.4g}  {row.ends}"
        found.append(f"{outcome:8}{row.text:24}{name:50}{numbers}")
    return [*found, verdict(comparisons)]


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Say how many intervals hold the exact value, and how many may miss it."""
    intervals = [row for row in comparisons if not row.bounded]
    holding, n = sum(row.agrees for row in intervals), len(intervals)
    most = most_outside(n)
    return f"{holding} of {n} intervals of 95 % hold the exact value; {most} may miss it by chance."


def passed(comparisons: Sequence[Comparison]) -> bool:
    """Whether all that is bounded is within, and no more intervals miss than chance explains."""
    outside = [row for row in comparisons if not row.agrees]
    intervals = sum(not row.bounded for row in comparisons)
    return not any(row.bounded for row in outside) and len(outside) <= most_outside(intervals)


def most_outside(n: int) -> int:
    """Return how many of n intervals of 95 % may miss: more would in one of 1,000 runs."""
    return int(binom.ppf(0.999, n, 0.05))


def _compared(
    world: Rehearsal, rates: Rates, rate: Rate, quantity: str, offset: int, exact: float
) -> Comparison:
    measured, low, high = rates.summary(rate)
    return Comparison(world.name, quantity, offset, measured, exact, low, high)


def _allowed(
    world: Rehearsal, quantity: str, offset: int | None, measured: float, most: float
) -> Comparison:
    return Comparison(world.name, quantity, offset, measured, 0.0, 0.0, most, bounded=True)


def _chain(seed: int) -> Iterator[Comparison]:
    """Yield what there is to know of a chain whose next token depends on the last two."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(6, 6, 6, generator=draw, dtype=torch.float64).pow(3) + 0.01
    text = MarkovChain(weights / weights.sum(dim=2, keepdim=True))
    world = Rehearsal("Markov chain, order 2", text, seed)
    yield from _log_probabilities(world, text)
    rates, everywhere = world.rates("marginal"), world.rates("all")
    last = world.anatomy.n_layers
    for offset in range(1, HORIZON + 1):
        exact = text.exact(offset)
        ceiling = "model" if offset == 1 else "marginal"
        nats = rates.nats(ceiling, None, offset)
        bits = v_information_bits(rates.nats("unigram", None, offset), nats)
        yield _compared(world, rates, nats, f"{ceiling}, nats", offset, exact.nats)
        yield _compared(world, rates, bits, f"{ceiling}, bits over the unigram", offset, exact.bits)
        for metric, share in (("top1", exact.top1), ("top5", exact.top5)):
            hits = rates.rate(metric, ceiling, None, offset)
            yield _compared(world, rates, hits, f"{ceiling}, {metric}", offset, share)
        for name, layer, of in (
            ("linear", last, exact.nats),
            ("skip-bigram", None, exact.skip_bigram_nats),
            ("unigram", None, exact.unigram_nats),
        ):
            found = everywhere.nats(name, layer, offset)
            row = _compared(world, everywhere, found, f"{name}, nats", offset, of)
            yield replace(row, slack=FITTED_NATS)


def _log_probabilities(world: Rehearsal, text: MarkovChain) -> Iterator[Comparison]:
    """Yield the largest error of a marginal, and how often one leaves its bounds."""
    seen = next(iter(world.streams["test"]))
    valid = dict.fromkeys(range(2, HORIZON + 1), world.drawn[seen.blocks])
    states = text.states(seen.token_ids)[world.drawn[seen.blocks]]
    outside = 0
    for nucleus in (1.0, *NUCLEI):
        readout = world.ceiling(nucleus)
        for cell, logits in readout.predict(seen, valid):
            probs, exact = logits.double().exp(), text.conditional(cell.offset)[states]
            if nucleus == 1.0:
                error = float((probs.log() - exact.log()).abs().max())
                name = "largest error of a marginal, nats"
                yield _allowed(world, name, cell.offset, error, LOG_PROBABILITY_NATS)
                continue
            kept = [r.retained_mass for r in readout.records if r.offset == cell.offset]
            mass = torch.tensor(kept, dtype=torch.float64)[:, None]
            low, high = probs * mass - ROUNDING, probs * mass + (1 - mass) + ROUNDING
            outside += int(((exact < low) | (exact > high)).any(dim=1).sum())
    name = f"positions out of bounds at nuclei {NUCLEI}"
    yield _allowed(world, name, None, float(outside), 0.0)


def _planted(seed: int) -> Iterator[Comparison]:
    """Yield what is to be found of a token that some layers alone foresee."""
    text = Planted()
    world = Rehearsal("planted signal", text, seed)
    rates, last = world.rates("all"), world.anatomy.n_layers
    rows = {row["offset"]: row for row in world.findings.rows}
    for offset in (1, 2):
        best = rows[offset]["best_layer"]
        layers = text.best_layers(offset)
        ends = float(layers[0]), float(layers[-1])
        yield Comparison(
            world.name, "best layer", offset, float(best), ends[0], *ends, bounded=True
        )
    best = text.best_layers(2)[0]
    for layer in (best, last):
        exact = text.nats(layer, 2)
        found = rates.nats("linear", layer, 2)
        row = _compared(world, rates, found, f"linear at layer {layer}, nats", 2, exact)
        yield replace(row, slack=FITTED_NATS)
    hits = rates.rate("top1", "linear", best, 2)
    yield _compared(world, rates, hits, f"linear at layer {best}, top1", 2, text.top1(best, 2))
    row = _row(world, rows[2], "forgotten_bits", "forgotten, bits", text.forgotten_bits(2))
    yield replace(row, slack=FITTED_BITS)
    chance = math.log(text.n_tokens)
    for offset in (2, 3):
        readable = chance - text.nats(text.best_layers(offset)[0], offset)
        known = chance - text.ceiling_nats(offset)
        row = _row(world, rows[offset], "recovered", "recovered, share", readable / known)
        yield replace(row, slack=FITTED_NATS / known)
    saturation, first = float(rows[1]["saturation_layer"]), float(text.best_layers(1)[0])
    yield Comparison(
        world.name, "lens saturates at layer", 1, saturation, first, first, first, bounded=True
    )
    yield _shuffled(world, text)


def _row(
    world: Rehearsal, row: Mapping[str, Any], name: str, said: str, exact: float
) -> Comparison:
    ends = row[f"{name}_low"], row[f"{name}_high"]
    return Comparison(world.name, said, int(row["offset"]), row[name], exact, *ends)


def _shuffled(world: Rehearsal, text: Planted) -> Comparison:
    """Return what a probe of the planted layer knows of the tokens of other positions."""
    draw = torch.Generator().manual_seed(world.seed)
    targets: dict[Split, Targets] = {}
    for split, own in world.targets.items():
        mixed = own.ids[2].clone()
        found = mixed[own.valid[2]]
        mixed[own.valid[2]] = found[torch.randperm(len(found), generator=draw)]
        targets[split] = Targets("shuffled", {2: mixed}, {2: own.valid[2]})
    layer = text.best_layers(2)[0]
    readouts: list[Readout] = [world.fit(targets), world.floors(targets)[0]]
    rates = world.tallied([world.scored("test", readouts, targets)]).rates(
        world.name, "test", "all"
    )
    bits = v_information_bits(rates.nats("unigram", None, 2), rates.nats("linear", layer, 2))
    row = _compared(world, rates, bits, f"linear at layer {layer}, shuffled labels, bits", 2, 0.0)
    return replace(row, slack=FITTED_BITS)


def _beliefs(seed: int) -> Iterator[Comparison]:
    """Yield what a linear probe on the exact belief state of a hidden process misses."""
    process = mess3()
    eye = nn.Linear(3, 3, bias=False)
    eye.weight.data = torch.eye(3)
    head = Anatomy(nn.Identity(), (nn.Identity(),), (), eye, d_model=3)
    draw = torch.Generator().manual_seed(seed)
    parts = []
    for n in BELIEVED:
        token_ids = process.sample(n, LENGTH, draw)
        resid = {1: process.beliefs(token_ids).float()}
        blocks = Blocks(token_ids, torch.arange(n)[:, None].expand(n, LENGTH))
        parts.append(([Seen(token_ids, resid)], text_targets(blocks, HORIZON)))
    train, validation, ([seen], targets) = parts
    probes = linear.fit(train, validation, head, [1])
    for cell, logits in probes.predict(seen, targets.valid):
        tokens = targets.ids[cell.offset][targets.valid[cell.offset]]
        lost = losses(logits, tokens).nats.double().mean()
        missed = float(lost - process.nats(seen.token_ids, cell.offset).mean())
        name = "probe of the exact belief, nats above Bayes"
        # A softmax of a linear map is not quite the best: it misses about 0.001.
        yield Comparison(
            "Mess3", name, cell.offset, missed, 0.0, -BELIEF_NATS, BELIEF_NATS, bounded=True
        )

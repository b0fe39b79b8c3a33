"""Train heads at several layers beside linear probes: a later token is gone, or not linear.

At each of some layers of the frozen model a linear probe is fitted at offset 2, and a block head
is trained that starts as that probe. The probe reads the layer at t alone, the head at all
positions up to t: what the head gains was there, only not linearly readable at t.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from probekit.heads.heads import HeadReadout
from probekit.pipelines.head_study.findings import with_interval
from probekit.pipelines.head_study.probe_starts import fitted, starts
from probekit.pipelines.head_study.score_strategies import scored
from probekit.pipelines.head_study.study import SWEPT_OFFSET as OFFSET
from probekit.pipelines.head_study.study import Study
from probekit.pipelines.head_study.train_strategies import train_at, training_notes
from probekit.probes.probe import Probes
from probekit.readout import LINEAR, UNIGRAM
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import DocumentSums, Rate, Rates

HEAD, PROBE = "head", LINEAR
# Name of the table of their scores: that of strategies has one of the layer that these read.
PROBES = "linear-by-layer"

# Of what the probe loses towards the last layer: where heads surely lose more, it is called gone.
MOST = 0.5

# The answers, by whether heads find more than the probe, whether the probe loses towards the last
# layer, whether heads do, and how much of it.
BEHIND = "Cannot tell: a head behind the probe was trained too little to say what is there."
NO_BETTER = (
    "Cannot tell: heads that read no more than the probe were trained too little, or find nothing "
    "that it does not."
)
NOTHING_LOST = (
    "So of what such heads can read of the second token nothing is lost: the last layer holds as "
    "much of it as any."
)
NOT_CLEAR = "Cannot tell whether late layers lose any of it: no loss is clear of zero."
FOUND_NO_MORE = (
    "So the linear probe loses nothing that is clear of zero, but heads do not find in the last "
    "layer all that they find at an earlier one."
)
PARTLY = "So part is only not linearly readable any more, part these heads do not find again: {}."
GONE = "So for heads of this size and training what the probe loses is gone: {}."
HOW_MUCH = "Cannot tell how much of it is gone: {}."
STILL_THERE = (
    "So it is still there, only not linearly readable at one position: {}, and no loss of theirs "
    "is clear of zero."
)
UNCLEAR = (
    "Cannot tell whether it is gone: no loss of the heads is clear of zero, nor is its difference "
    "from the probe's ({} nats)."
)


@dataclass(frozen=True)
class Sweep:
    """Scores of the sweep over layers.

    Attributes:
        sums: Scores by document of head, probe and unigram.
        validation: Cross-entropy in nats on the validation text, by readout and layer.
        trained: Notes of each training, by layer.
    """

    sums: DocumentSums
    validation: Mapping[tuple[str, int], float]
    trained: Mapping[int, dict[str, Any]]

    @property
    def layers(self) -> list[int]:
        """The layers, ascending."""
        return sorted(self.trained)

    def best(self, readout: str) -> int:
        """Return the layer of a readout's lowest cross-entropy on the validation text."""
        return min(self.layers, key=lambda layer: self.validation[readout, layer])


def sweep(study: Study) -> Sweep:
    """Train a head and fit a probe at each layer, and score both."""
    probes = fitted(study, study.swept, (OFFSET,))
    trained = {
        layer: study.stages.json(f"sweep layer {layer}", partial(_trained, study, layer, probes))
        for layer in study.swept
    }
    of_probes = study.stages.json("sweep score linear", partial(_score_probes, study, probes))
    at = str(OFFSET)
    validation = {(HEAD, layer): notes["validation"][at] for layer, notes in trained.items()}
    validation |= {(PROBE, int(layer)): nats for layer, nats in of_probes["validation"].items()}
    names = [*(f"layer-{layer}" for layer in study.swept), PROBES]
    whole = pd.concat([study.table(name) for name in names], ignore_index=True)
    whole = whole.astype({"layer": "Int64"}).assign(split="test", seed=study.settings.seed)
    setup = study.setup
    table = DocumentSums(whole, setup.domains, setup.bytes_per_token, study.settings.seed)
    return Sweep(table, validation, trained)


def _trained(study: Study, layer: int, probes: Probes) -> dict[str, Any]:
    # Only a head that starts as the identity can start as a probe.
    start = starts(probes, layer) if study.settings.init == "zero" else {}
    heads, history, recipe = train_at(study, layer, OFFSET, start)
    readout = HeadReadout(HEAD, study.backbone, heads, study.setup.anatomy)
    study.keep_table(f"layer-{layer}", scored(study, [readout], study.setup))
    return training_notes(history, heads.n_values, recipe) | {"from_probe": bool(start)}


def _score_probes(study: Study, probes: Probes) -> dict[str, Any]:
    study.keep_table(PROBES, scored(study, [probes, study.unigram], study.setup))
    nats = {layer: probes.probes[layer, OFFSET].validation_nats for layer in study.swept}
    return {"validation": {str(layer): value for layer, value in nats.items()}}


def rows(swept: Sweep) -> list[dict[str, Any]]:
    """Return one row a domain, readout and layer; paired differences in the probe's rows."""
    listed = []
    for domain in swept.sums.groups:
        rates = swept.sums.rates(domain, "test", "all")
        floor = rates.nats(UNIGRAM, None, OFFSET)
        for layer in swept.layers:
            head = rates.nats(HEAD, layer, OFFSET)
            for readout in (HEAD, PROBE):
                nats = rates.nats(readout, layer, OFFSET)
                row = {"domain": domain, "readout": readout, "layer": layer, "offset": OFFSET}
                row |= rates.columns("nats", nats)
                row |= rates.columns("bits", v_information_bits(floor, nats))
                row |= rates.columns("top1", rates.rate("top1", readout, layer, OFFSET))
                row |= rates.columns("nats_minus_head", nats - head if readout == PROBE else None)
                listed.append(row | {"validation_nats": swept.validation[readout, layer]})
    return listed


def answer(swept: Sweep) -> str:
    """Say, with intervals, whether late layers lost the second token or only its linear form."""
    rates = swept.sums.rates(swept.sums.groups[0], "test", "all")
    if rates.shortage:
        return f"Read-layer sweep: cannot tell: {rates.shortage}."
    last = swept.layers[-1]
    sentence = (
        f"Read-layer sweep, one training seed: from its best layer on validation text to the last "
        f"({last}) the linear probe of offset {OFFSET} loses {_lost(rates, PROBE, swept)}, a block "
        f"head {_lost(rates, HEAD, swept)}. At the last layer the head reads "
        f"{with_interval(rates.summary(_gain(rates, last)))} nats more than the probe."
    )
    return f"{sentence} {_judged(rates, swept)}"


def _lost(rates: Rates, readout: str, swept: Sweep) -> str:
    best, last = swept.best(readout), swept.layers[-1]
    if best == last:
        return "nothing (it reads most there)"
    loss = rates.summary(_rise(rates, readout, best, last))
    return f"{with_interval(loss)} nats (from layer {best})"


def _judged(rates: Rates, swept: Sweep) -> str:
    last, best, own = swept.layers[-1], swept.best(PROBE), swept.best(HEAD)
    _, low, high = rates.summary(_gain(rates, last))
    if low <= 0:
        return BEHIND if high < 0 else NO_BETTER
    probe, head = (_rise(rates, name, best, last) for name in (PROBE, HEAD))
    gone = _surely(rates, _rise(rates, HEAD, own, last))
    if _surely(rates, probe):
        return _of_loss(rates, probe, head, gone)
    if gone:
        return FOUND_NO_MORE
    return NOTHING_LOST if best == last == own else NOT_CLEAR


def _of_loss(rates: Rates, probe: Rate, head: Rate, gone: bool) -> str:
    """Say how much of the probe's loss is a loss of the heads, who lose `gone` at all or not."""
    less = _surely(rates, probe - head)
    if not gone and not less:
        return UNCLEAR.format(with_interval(rates.summary(probe - head)))
    share = rates.summary(head / probe)
    sentence = (
        f"heads lose {100 * share[0]:.0f} % [{100 * share[1]:.0f}, {100 * share[2]:.0f}] of what "
        "the probe loses"
    )
    if less:
        return (PARTLY if gone else STILL_THERE).format(sentence)
    return (GONE if share[1] > MOST else HOW_MUCH).format(sentence)


def _surely(rates: Rates, difference: Rate) -> bool:
    """Say whether a difference is above zero with its whole interval."""
    return rates.summary(difference)[1] > 0


def _gain(rates: Rates, layer: int) -> Rate:
    """Return how much more a head reads than the probe of the same layer."""
    gain: Rate = _at(rates, PROBE, layer) - _at(rates, HEAD, layer)
    return gain


def _rise(rates: Rates, readout: str, first: int, last: int) -> Rate:
    rise: Rate = _at(rates, readout, last) - _at(rates, readout, first)
    return rise


def _at(rates: Rates, readout: str, layer: int) -> Rate:
    return rates.nats(readout, layer, OFFSET)

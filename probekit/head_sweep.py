"""Heads at several layers beside linear probes: whether a later token is gone, or not linear.

A block head at offset 2 is trained on each of some layers of the frozen model; the linear
probe of the same layers is fitted to the same text. A head reads the layer at all positions up
to t, a linear probe at t alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probekit import linear, probes, results
from probekit.head_scores import UNIGRAM, scored
from probekit.head_stages import Study
from probekit.head_training import noted, train_at
from probekit.heads import HeadReadout
from probekit.metrics import v_information_bits
from probekit.probes import Probes
from probekit.tally import Rate, Rates, Tally

OFFSET = 2
HEAD, PROBE = "head", "linear"


@dataclass(frozen=True)
class Sweep:
    """What the sweep over layers found.

    Attributes:
        tally: Scores by document of head, probe and unigram.
        validation: Cross-entropy in nats on the validation text, by readout and layer.
        trained: What is to be known of each training, by layer.
    """

    tally: Tally
    validation: Mapping[tuple[str, int], float]
    trained: Mapping[int, dict[str, Any]]

    @property
    def layers(self) -> list[int]:
        """The layers, ascending."""
        return sorted(self.trained)

    def best(self, readout: str) -> int:
        """Return the layer at which validation likes a readout best."""
        return min(self.layers, key=lambda layer: self.validation[readout, layer])


def sweep(study: Study) -> Sweep:
    """Train a head and fit a probe at each layer, and score both."""
    trained = {layer: _trained(study, layer) for layer in study.swept}
    probe = fitted(study)
    noted_probe = study.kept("sweep score linear", lambda: _score_probe(study, probe))
    validation = {(HEAD, layer): _best(notes) for layer, notes in trained.items()}
    validation |= {(PROBE, int(layer)): x for layer, x in noted_probe["validation"].items()}
    names = [*(f"layer-{layer}" for layer in study.swept), "linear"]
    whole = pd.concat([study.table(name) for name in names], ignore_index=True)
    whole = whole.astype({"layer": "Int64"}).assign(split="test", seed=study.settings.seed)
    material = study.material
    table = Tally(whole, material.domains, material.bytes_per_token, study.settings.seed)
    return Sweep(table, validation, trained)


def fitted(study: Study) -> Probes:
    """Return the linear probes of the sweep's layers, fitted first if need be."""
    path, material = study.path("linear.safetensors"), study.material
    if not path.exists():
        with study.journal.stage("sweep fit linear"):
            streams = study.streams(tuple(sorted({*study.swept, material.head.n_layers})))
            train, validation = (
                (streams.read(part), study.targets[part].only([OFFSET]))
                for part in ("train", "validation")
            )
            found = linear.fit(train, validation, material.head, study.swept)
            notes = {"model_fingerprint": material.fingerprint}
            results.write(path, lambda temporary: probes.save(found, temporary, notes))
    return probes.load(path, material.head, material.fingerprint)


def _trained(study: Study, layer: int) -> dict[str, Any]:
    def measure() -> dict[str, Any]:
        new, history, recipe = train_at(study, layer, OFFSET)
        readout = HeadReadout(HEAD, study.backbone, new, study.material.head)
        study.keep_table(f"layer-{layer}", scored(study, [readout], study.material))
        return noted(history, sum(p.numel() for p in new.parameters()), recipe)

    return study.kept(f"sweep layer {layer}", measure)


def _score_probe(study: Study, probe: Probes) -> dict[str, Any]:
    unigram = study.unigram
    study.keep_table("linear", scored(study, [probe, unigram], study.material))
    return {
        "validation": {
            str(layer): probe.probes[layer, OFFSET].validation_nats for layer in study.swept
        }
    }


def _best(notes: Mapping[str, Any]) -> float:
    """Return the cross-entropy on the validation text of the weights that were kept."""
    rows = [row for row in notes["curve"] if row["part"] == "validation"]
    (found,) = [row["nats"] for row in rows if row["step"] == notes["best_step"]]
    return float(found)


def rows(found: Sweep) -> list[dict[str, Any]]:
    """Return one row a domain, readout and layer; paired differences in the probe's rows."""
    listed = []
    for domain in found.tally.groups:
        rates = found.tally.rates(domain, "test", "all")
        floor = rates.nats(UNIGRAM, None, OFFSET)
        for layer in found.layers:
            head = rates.nats(HEAD, layer, OFFSET)
            for readout in (HEAD, PROBE):
                nats = rates.nats(readout, layer, OFFSET)
                row = {"domain": domain, "readout": readout, "layer": layer, "offset": OFFSET}
                row |= rates.columns("nats", nats)
                row |= rates.columns("bits", v_information_bits(floor, nats))
                row |= rates.columns("top1", rates.rate("top1", readout, layer, OFFSET))
                row |= rates.columns("nats_minus_head", nats - head if readout == PROBE else None)
                listed.append(row | {"validation_nats": found.validation[readout, layer]})
    return listed


def answer(found: Sweep) -> str:
    """Say, with intervals, whether late layers lost the second token or only its linear form."""
    domain = found.tally.groups[0]
    rates = found.tally.rates(domain, "test", "all")
    last, best = found.layers[-1], found.best(PROBE)
    ahead = rates.summary(_at(rates, HEAD, best) - _at(rates, PROBE, best))
    if best == last:
        return (
            f"Read-layer sweep: cannot tell. The linear probe of offset {OFFSET} reads most at the "
            f"last layer ({last}) already, so nothing is lost on the way that heads could find. "
            f"Head minus probe there: {_text(ahead)} nats{_short(ahead)}."
        )
    probe, head = (_rise(rates, name, best, last) for name in (PROBE, HEAD))
    told = (
        f"From layer {best}, where the linear probe of offset {OFFSET} is best on validation text, "
        f"to the last layer ({last}), the probe loses {_text(rates.summary(probe))} nats, block "
        f"heads trained at those layers {_text(rates.summary(head))}"
    )
    return f"Read-layer sweep: {told}. {_judged(rates, probe, head, ahead)}"


def _judged(rates: Rates, probe: Rate, head: Rate, ahead: tuple[float, float, float]) -> str:
    lost, kept = rates.summary(probe), rates.summary(head)
    apart = rates.summary(probe - head)
    if lost[1] <= 0:
        return "Cannot tell: the probe's loss is not clear of zero, so there is none to explain."
    if ahead[1] > 0:
        return (
            f"Cannot tell: at the probe's best layer the head is worse than the probe by "
            f"{_text(ahead)} nats, so that it was trained too little to say what a layer holds."
        )
    if apart[1] > 0 and kept[1] <= 0:
        return (
            f"The heads lose less by {_text(apart)}, and no loss of theirs is clear of zero: what "
            "is known of the second token is still there in the last layer, only not linearly "
            "readable at one position."
        )
    if apart[1] > 0:
        return (
            f"The heads lose less by {_text(apart)}, but lose too: part of what is known of the "
            "second token is only not linearly readable any more, part these heads do not find "
            "again."
        )
    if kept[1] > 0:
        return (
            f"The heads lose no less than the probe (difference {_text(apart)}): what they read at "
            "the earlier layer they do not find again in the last; for heads of this size and "
            "training it is gone."
        )
    return (
        "Cannot tell: neither the heads' loss nor its difference from the probe's "
        f"({_text(apart)}) is clear of zero."
    )


def _short(ahead: tuple[float, float, float]) -> str:
    if ahead[1] <= 0:
        return ""
    return ": heads behind a linear probe say nothing of what is there; train them on more text"


def _rise(rates: Rates, readout: str, first: int, last: int) -> Rate:
    rise: Rate = _at(rates, readout, last) - _at(rates, readout, first)
    return rise


def _at(rates: Rates, readout: str, layer: int) -> Rate:
    return rates.nats(readout, layer, OFFSET)


def _text(found: tuple[float, float, float]) -> str:
    value, low, high = found
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"

"""Contrasts between readouts, as rows of results.json; differences are paired by document.

controls    probe against control task and against an untrained model. Selectivity is top-1
            accuracy less accuracy on the control task: Hewitt and Liang (2019)
families    the best probe of each family against the best linear one
sequences   several offsets together: top-1 at each, at all so far, and given those before; the
            ceiling's total correlation is what no independent predictions of them can know
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from probekit.readout import CONTROL, LINEAR, MARGINAL, MARGINAL_ADAPTED, RANDOM, UNIGRAM
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import DocumentSums, Rates


def controls(sums: DocumentSums) -> Iterator[dict[str, Any]]:
    """Yield `controls` of results.json: one row a layer, offset, domain and seed."""
    for seed in (sums.seed, *sums.repeated):
        for domain in sums.groups:
            rates = sums.rates(domain, "test", "all", seed)
            for readout, layer, offset in rates.cells:
                if readout == CONTROL:
                    where = {"offset": offset, "domain": domain, "layer": layer, "seed": seed}
                    yield where | _control(rates, layer, offset)


def _control(rates: Rates, layer: int | None, offset: int) -> dict[str, Any]:
    probe, control = (rates.rate("top1", name, layer, offset) for name in (LINEAR, CONTROL))
    untrained = rates.nats(RANDOM, layer, offset)
    random_bits = v_information_bits(rates.nats(UNIGRAM, None, offset), untrained)
    gained_bits = v_information_bits(untrained, rates.nats(LINEAR, layer, offset))
    return (
        rates.columns("top1", probe)
        | rates.columns("control_top1", control)
        | rates.columns("selectivity", probe - control)
        | rates.columns("random_bits", random_bits)
        | rates.columns("bits_over_random", gained_bits)
    )


def families(sums: DocumentSums, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield `families` of results.json: the best layer of each family against the best linear.

    The layer is chosen on validation.

    Args:
        sums: What was scored on validation and test.
        names: Families, of which `linear` is one.
    """
    again = {seed: readouts & set(names) for seed, readouts in sums.repeated.items()}
    for seed, fitted in {sums.seed: set(names), **again}.items():
        for domain in sums.groups:
            validation = sums.rates(domain, "validation", "all", seed)
            test = sums.rates(domain, "test", "all", seed)
            for offset in sorted({k for name, _, k in test.cells if name == LINEAR}):
                linear = test.nats(LINEAR, _best(validation, LINEAR, offset), offset)
                for name in (name for name in names if name in fitted):
                    layer = _best(validation, name, offset)
                    nats = test.nats(name, layer, offset)
                    where = {"readout": name, "layer": layer, "offset": offset}
                    yield (
                        where
                        | {"domain": domain, "seed": seed}
                        | test.columns("nats", nats)
                        | test.columns("top1", test.rate("top1", name, layer, offset))
                        | test.columns("bits_over_linear", v_information_bits(linear, nats))
                    )


def _best(validation: Rates, readout: str, offset: int) -> int | None:
    """Return the layer of lowest cross-entropy; None for a readout of all layers at once."""
    if not validation.layers(readout, offset):
        return None
    return validation.best_layer(readout, offset)


def sequences(sums: DocumentSums, target: str) -> Iterator[dict[str, Any]]:
    """Yield `sequences` of results.json: one row a readout, layer, offset from 2 on, and domain.

    They are measured where every offset has a target, so that a share of positions that is
    right at all offsets so far can be divided by the share before.

    Args:
        sums: What was scored on test, positions `marginal`.
        target: Name of the targets.
    """
    for domain in sums.groups:
        rates = sums.rates(domain, "test", "marginal")
        for readout, layer, offset in rates.cells:
            if offset > 1 and readout not in (CONTROL, RANDOM):
                where = {"readout": readout, "layer": layer, "offset": offset, "domain": domain}
                yield where | {"target": target} | _sequence(rates, readout, layer, offset)


def _sequence(rates: Rates, readout: str, layer: int | None, offset: int) -> dict[str, Any]:
    top1 = rates.rate("top1", readout, layer, offset)
    joint = rates.rate("joint", readout, layer, offset)
    before = rates.rate("joint", readout, layer, offset - 1) if offset > 2 else np.ones_like(joint)
    conditional = joint / np.where(before > 0, before, np.nan)
    joint_nats, correlation = rates.rate("joint_nats", readout, layer, offset), None
    if readout in (MARGINAL, MARGINAL_ADAPTED):
        apart = sum(rates.nats(readout, layer, k) for k in range(2, offset + 1))
        correlation = apart - joint_nats
    return (
        rates.columns("top1", top1)
        | rates.columns("joint", joint)
        | rates.columns("conditional", conditional)
        | rates.columns("joint_nats", joint_nats)
        | rates.columns("total_correlation", correlation)
    )

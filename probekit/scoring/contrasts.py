"""Contrasts between readouts, as rows of results.json; differences are paired by document.

controls    probe against the same probe on permuted targets, and on models whose blocks are
            untrained
families    the best probe of each family against the best linear one
sites       the best linear probe at each place in a block against that at the first
sequences   several offsets together: top-1 at each, at all so far, and given those before; how
            many tokens in a row are right, which is how many of a draft are accepted; the
            ceiling's total correlation is what no independent predictions of them can know
transplants transplants against the same tokens behind the prompt, the one at t in its place
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from probekit.readout import (
    CONTROL,
    LINEAR,
    MARGINAL,
    MARGINAL_ADAPTED,
    PROMPT_ALONE,
    RANDOM,
    TOKEN_ALONE,
    TRANSPLANT,
    UNIGRAM,
)
from probekit.scoring.accepted_length import accepted_length
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import DocumentSums, Rate, Rates


def controls(sums: DocumentSums, kept: Mapping[int, float]) -> Iterator[dict[str, Any]]:
    """Yield `controls` of results.json: one row a layer, offset, domain and seed.

    Args:
        sums: What was scored on test.
        kept: By offset, the share of training positions whose target had none to change places
            with.
    """
    again = [seed for seed, readouts in sums.repeated.items() if CONTROL in readouts]
    for domain in sums.groups:
        of_seed = {seed: sums.rates(domain, "test", "all", seed) for seed in _drawn(sums)}
        for seed in (sums.seed, *again):
            for readout, layer, offset in of_seed[seed].cells:
                if readout == CONTROL:
                    where = {"offset": offset, "domain": domain, "layer": layer, "seed": seed}
                    # Targets changed places across texts: of one text alone they say nothing.
                    whole = domain == sums.groups[0]
                    permuted = _permuted(of_seed[seed], layer, offset, whole)
                    untrained = _untrained(list(of_seed.values()), layer, offset, sums.seed)
                    yield where | permuted | {"kept_share": kept[offset]} | untrained


def _drawn(sums: DocumentSums) -> list[int]:
    """Return the seeds of controls, the first one first."""
    again = {s for s, readouts in sums.repeated.items() if readouts & {CONTROL, RANDOM}}
    return [sums.seed, *sorted(again)]


def _permuted(rates: Rates, layer: int | None, offset: int, whole: bool) -> dict[str, float | None]:
    contextual, overfit = None, None
    if whole:
        control = rates.nats(CONTROL, layer, offset)
        contextual = v_information_bits(control, rates.nats(LINEAR, layer, offset))
        if rates.has(LINEAR, 0, offset):
            overfit = v_information_bits(control, rates.nats(LINEAR, 0, offset))
    return rates.columns("contextual_bits", contextual) | rates.columns("overfit_bits", overfit)


def _untrained(
    draws: Sequence[Rates], layer: int | None, offset: int, seed: int
) -> dict[str, float | None]:
    """Return the mean over models with untrained blocks, their spread in the interval."""
    rates = draws[0]
    found = [each.nats(RANDOM, layer, offset) for each in draws if each.has(RANDOM, layer, offset)]
    random_bits, gained_bits = None, None
    if found:
        untrained = _over_draws(np.stack(found), seed)
        random_bits = v_information_bits(rates.nats(UNIGRAM, None, offset), untrained)
        gained_bits = v_information_bits(untrained, rates.nats(LINEAR, layer, offset))
    return (
        rates.columns("random_bits", random_bits)
        | rates.columns("bits_over_random", gained_bits)
        | {"random_draws": len(found)}
    )


def _over_draws(draws: Rate, seed: int) -> Rate:
    """Return the mean of draws, shape (1 + resamples,), each resample of resampled draws too.

    Args:
        draws: Rates of each draw, shape (draws, 1 + resamples).
        seed: Seed of the resampling.
    """
    mean: Rate = draws.mean(axis=0)
    if len(draws) == 1:
        return mean
    size = (len(draws), draws.shape[1])
    picked = np.random.default_rng(seed).integers(len(draws), size=size)
    # A resample of n draws varies by (n - 1) / n of what another n draws would.
    wider = math.sqrt(len(draws) / (len(draws) - 1))
    moved = (np.take_along_axis(draws, picked, axis=0).mean(axis=0) - mean) * wider
    moved[0] = 0
    mean += moved
    return mean


def families(sums: DocumentSums, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield `families` of results.json: the best layer of each family against the best linear.

    The layer is chosen on validation.

    Args:
        sums: What was scored on validation and test.
        names: Families, of which `linear` is one.
    """
    again = {s: fitted & set(names) for s, fitted in sums.repeated.items() if fitted & set(names)}
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


def sites(sums: DocumentSums, readouts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield `sites` of results.json: the best layer at each place in a block against the first's.

    The layer is chosen on validation; the floor is the same for all.

    Args:
        sums: What was scored on validation and test.
        readouts: By site, the readout that its probes are; the first is what others are set beside.
    """
    own = next(iter(readouts.values()))
    for domain in sums.groups:
        validation, test = (sums.rates(domain, split, "all") for split in ("validation", "test"))
        for offset in sorted({k for name, _, k in test.cells if name == own}):
            floor = test.nats(*validation.token_floor(offset), offset)
            first = test.nats(own, validation.best_layer(own, offset), offset)
            for site, readout in readouts.items():
                layer = validation.best_layer(readout, offset)
                nats = test.nats(readout, layer, offset)
                yield (
                    {"site": site, "layer": layer, "offset": offset, "domain": domain}
                    | test.columns("nats", nats)
                    | test.columns("bits_given_token", v_information_bits(floor, nats))
                    | test.columns("bits_over_first", v_information_bits(first, nats))
                )


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
        for (readout, layer, offset), blind in rates.cells.items():
            # What is fed the tokens between cannot draft them.
            if offset > 1 and blind and readout not in (CONTROL, RANDOM):
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
        | rates.columns("accepted", accepted_length(rates, readout, layer, offset))
        | rates.columns("joint_nats", joint_nats)
        | rates.columns("total_correlation", correlation)
    )


def transplants(sums: DocumentSums) -> Iterator[dict[str, Any]]:
    """Yield `transplants` of results.json: one row a layer, offset and domain.

    Args:
        sums: What was scored on test, positions `marginal`.
    """
    for domain in sums.groups if (sums.table["readout"] == TRANSPLANT).any() else ():
        rates = sums.rates(domain, "test", "marginal")
        for (readout, layer, offset), blind in rates.cells.items():
            if readout == TRANSPLANT:
                top1, token, alone = (
                    rates.rate("top1", *cell, offset)
                    for cell in ((TRANSPLANT, layer), (TOKEN_ALONE, None), (PROMPT_ALONE, None))
                )
                nats = (rates.nats(TOKEN_ALONE, None, offset), rates.nats(readout, layer, offset))
                where = {"layer": layer, "offset": offset, "domain": domain, "blind": bool(blind)}
                yield (
                    where
                    | rates.columns("top1", top1)
                    | rates.columns("top1_alone", alone)
                    | rates.columns("top1_token", token)
                    | rates.columns("top1_gained", top1 - token)
                    | rates.columns("bits_gained", v_information_bits(*nats))
                )

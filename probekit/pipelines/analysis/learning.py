"""Would more text move the numbers? Floor and best probe, fitted to nested parts of the text.

The training text is taken in quarters, halves and whole: every fourth block, every second, all.
Each part holds the one before, of every domain about the same share. On each the best probe of an
offset and its floor are fitted again, λ on the same validation text, and scored on the same test
positions, so that what more text gave is a paired difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probekit.data.documents import Split
from probekit.data.targets import Targets
from probekit.pipelines.analysis.fits import Inputs
from probekit.probes import linear, ngram
from probekit.probes.codelength import Within
from probekit.probes.ngram import SkipBigram
from probekit.probes.probe import Probe, ProbeKey, Probes
from probekit.readout import LINEAR, SKIP_BIGRAM, Readout
from probekit.runs.stages import Stages
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import DocumentSums, Rate, Rates
from probekit.scoring.score import score
from probekit.scoring.specialization import DomainRates
from probekit.settings import Settings
from probekit.shapes import Mask

# One block in so many; the first part is the smallest.
PARTS = 4, 2, 1
# Positions of the smallest part: of fewer there is no covariance to speak of. So many of them say
# what the loss is on the text of the fit.
FEWEST_POSITIONS, READ_AGAIN = 16, 1_024


@dataclass(frozen=True)
class Compared:
    """What is fitted to parts of the text at one offset, each a readout and its layer."""

    offset: int
    floor: tuple[str, int | None]
    best: tuple[str, int]

    @classmethod
    def of(cls, domain: DomainRates, offset: int) -> "Compared":
        """Return the floor and the best probe of a domain, both by validation."""
        return cls(offset, domain.floor(offset), (LINEAR, domain.best_layer(offset)))

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the probes."""
        floors = [layer for layer in (self.floor[1], self.best[1]) if layer is not None]
        return tuple(sorted(set(floors)))


def part_of(targets: Targets, one_in: int) -> Targets:
    """Return the targets of every so-manieth block alone.

    >>> ids = {1: torch.zeros(4, 2, dtype=torch.long)}
    >>> targets = Targets("text", ids, {1: torch.ones(4, 2, dtype=torch.bool)})
    >>> part_of(targets, 2).valid[1].any(dim=1)
    tensor([ True, False,  True, False])
    """
    n_blocks = len(next(iter(targets.valid.values())))
    return targets.at((torch.arange(n_blocks) % one_in == 0)[:, None])


def measured(
    inputs: Inputs,
    settings: Settings,
    sums: DocumentSums,
    whole: tuple[Probes, SkipBigram],
    where: Mask,
    stages: Stages,
) -> list[dict[str, Any]]:
    """Return `learning` of results.json, for the best probe and the floor of all text together.

    Args:
        inputs: Streams and targets.
        settings: The horizon.
        sums: What was scored, with all readouts.
        whole: Linear probes and skip-bigram of the whole training text.
        where: Test positions, shape (block, pos).
        stages: What is finished already.
    """
    anatomy = inputs.streams.setup.anatomy
    domain = DomainRates.of(sums, sums.groups[0], anatomy.n_layers)
    compared = [Compared.of(domain, offset) for offset in range(2, settings.offsets + 1)]
    own = stages.ranks.share(compared)
    scored = partial(score_parts, inputs, own, whole, where)
    table = stages.shared_table("learning", scored, ["offset"])
    return list(rows(sums, table, compared, anatomy.d_hidden))


def score_parts(
    inputs: Inputs,
    compared: Sequence[Compared],
    whole: tuple[Probes, SkipBigram],
    where: Mask,
) -> pd.DataFrame:
    """Return the sums by document of what was fitted to each part: on test, and on the least part.

    What was fitted to the whole text is scored on the least part alone: its test scores are known.

    Args:
        inputs: Streams and targets.
        compared: What to fit.
        whole: Linear probes and skip-bigram of the whole training text.
        where: Test positions, shape (block, pos).

    Returns:
        Rows of `probekit.scoring.score.score`, with columns `split`, `one_in` and `n_train`, the
        training positions. Of an offset whose smallest part has too few positions there are none.
    """
    tables = []
    inputs = inputs.holding([layer for each in compared for layer in each.layers])
    for each in compared:
        train = inputs.targets["train"].only([each.offset])
        least = part_of(train, PARTS[0])
        if int(least.valid[each.offset].sum()) < FEWEST_POSITIONS:
            continue
        for one_in in PARTS:
            part = part_of(train, one_in)
            fitted = _fitted(inputs, each, part) if one_in > 1 else _those_of(whole, each)
            n_train = int(part.valid[each.offset].sum())
            scored = [_on_train(inputs, fitted, each.offset, least)]
            if one_in > 1:
                scored.append(_on_test(inputs, fitted, each.offset, where))
            tables += [table.assign(one_in=one_in, n_train=n_train) for table in scored]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _those_of(whole: tuple[Probes, SkipBigram], each: Compared) -> list[Readout]:
    probes, skip_bigram = whole
    kept: dict[ProbeKey, Probe] = {
        (layer, each.offset): probes.probes[layer, each.offset] for layer in each.layers
    }
    counted: list[Readout] = [skip_bigram] if each.floor[0] == SKIP_BIGRAM else []
    return [*counted, replace(probes, probes=kept)]


def _fitted(inputs: Inputs, each: Compared, part: Targets) -> list[Readout]:
    setup, (stream, held) = inputs.streams.setup, inputs.part("validation")
    validation = held.only([each.offset])
    train, finals = inputs.streams.read("train"), inputs.finals
    probes = linear.fit(
        (Within(train, part), part),
        (stream, validation),
        setup.anatomy,
        each.layers,
        finals=None if finals is None else Within(finals, part),
    )
    if each.floor[0] != SKIP_BIGRAM:
        return [probes]
    counted = setup.blocks["train"].token_ids, part
    chosen_by = setup.blocks["validation"].token_ids, validation
    return [ngram.fit(counted, chosen_by, setup.anatomy.vocab_size)[1], probes]


def _on_test(inputs: Inputs, readouts: Sequence[Readout], offset: int, where: Mask) -> pd.DataFrame:
    test, documents = inputs.targets["test"].only([offset]), _documents(inputs, "test")
    table = score(readouts, inputs.streams.read("test"), test, {"all": where}, documents)
    return table.assign(split="test")


def _on_train(
    inputs: Inputs, readouts: Sequence[Readout], offset: int, least: Targets
) -> pd.DataFrame:
    few = least.sampled(READ_AGAIN)
    train, seen = Within(inputs.streams.read("train"), few), {"all": few.valid[offset]}
    return score(readouts, train, few, seen, _documents(inputs, "train")).assign(split="train")


def _documents(inputs: Inputs, split: Split) -> Tensor:
    return inputs.streams.setup.blocks[split].documents


def rows(
    sums: DocumentSums, table: pd.DataFrame, compared: Sequence[Compared], width: int
) -> Iterator[dict[str, Any]]:
    """Yield `learning` of results.json: a row a domain, offset, part, readout.

    Args:
        sums: What was scored, with all readouts.
        table: What `score_parts` returned.
        compared: What was fitted.
        width: What a probe reads: a probe's map has width² values.
    """
    if table.empty:
        return
    parts = table.assign(readout=[*map(_name, table["readout"], table["one_in"])], seed=sums.seed)
    every = replace(sums, table=pd.concat([sums.table, parts], ignore_index=True))
    n_train = table.groupby(["offset", "one_in"])["n_train"].first()
    of_train = table[table["split"] == "train"]["document"].unique()
    held = {sums.domains[number] for number in of_train}
    for domain in sums.groups:
        if domain in sums.domains and domain not in held:
            continue  # the least part of the training text has nothing of it
        train, test = (every.rates(domain, split, "all") for split in ("train", "test"))
        for each in compared:
            for row in _curve(test, train, each) if each.offset in n_train else ():
                n = int(n_train[each.offset, row["one_in"]])
                place = {"domain": domain, "positions": "all", "offset": each.offset}
                yield place | row | {"n_train": n, "positions_per_value": n / width**2}


def _name(readout: str, one_in: int) -> str:
    """Return the name of what was fitted to a part; of the whole text it is in the scores."""
    return readout if one_in == 1 else f"{readout} of 1/{one_in}"


def _curve(test: Rates, train: Rates, each: Compared) -> Iterator[dict[str, Any]]:
    """Yield what each part of the text gave floor and best probe, and what it added to its half."""

    def curve(rates: Rates, readout: str, layer: int | None) -> list[Rate]:
        return [rates.nats(_name(readout, one_in), layer, each.offset) for one_in in PARTS]

    best, floor = curve(test, *each.best), curve(test, *each.floor)
    read = [v_information_bits(low, high) for low, high in zip(floor, best, strict=True)]
    for role, cell, nats in (("floor", each.floor, floor), ("best", each.best, best)):
        fitted_to = curve(train, *cell)
        for i, one_in in enumerate(PARTS):
            row: dict[str, Any] = {"role": role, "readout": cell[0], "layer": cell[1]}
            row |= {"one_in": one_in, "train_nats": float(fitted_to[i][0])}
            row |= test.columns("nats", nats[i])
            row |= test.columns("gain_nats", nats[i - 1] - nats[i] if i else None)
            row |= test.columns("doubled_nats", doubled(nats[i - 2 : i + 1]) if i > 1 else None)
            of_best = role == "best"
            row |= test.columns("read_bits", read[i] if of_best else None)
            gain = read[i] - read[i - 1] if of_best and i else None
            yield row | test.columns("read_gain_bits", gain)


def doubled(nats: Sequence[Rate]) -> Rate:
    """Return what twice the text should lose: gains go on to shrink as they last did.

    Args:
        nats: What a quarter of the text, a half and all of it lose. A gain that did not shrink,
            or came after none, is taken to come again.

    >>> doubled([np.array([7.0]), np.array([6.0]), np.array([5.5])])
    array([5.25])
    """
    quarter, half, whole = nats
    first, last = quarter - half, half - whole
    ratio = np.divide(last, first, out=np.ones_like(last), where=first > 0).clip(0, 1)
    next_loss: Rate = whole - ratio * last
    return next_loss

"""The paper's way of scoring: top-5 where a sample's last target tokens are predicted.

`scored` takes any readouts, so that heads are scored where the model is. Beside the paper's
positions stands an extended set, every target token of more samples, with a bootstrap over samples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from probekit.activations import residual_stream
from probekit.data.pair_tokens import LAST, Sample
from probekit.data.targets import Targets
from probekit.errors import SettingsError
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginalize import Marginalization
from probekit.models.anatomy import Anatomy
from probekit.paper.numbers import Share
from probekit.paper.samples import asking
from probekit.probes import logit_lens
from probekit.readout import Readout
from probekit.scoring.intervals import document_bootstrap, effective_documents, interval
from probekit.scoring.rates import RESAMPLES
from probekit.scoring.score import score
from probekit.settings import LARGEST_SEED
from probekit.shapes import Mask

PAPER, EXTENDED = "last 20", "extended"
NEXT, SECOND = 1, 2

# Three float32 copies of one position's (branches, vocabulary) are alive together.
BRANCH_BYTES, BYTES_A_PROBABILITY = 4 * 2**30, 12


@dataclass(frozen=True)
class Protocol:
    """How the paper's experiment is repeated.

    Attributes:
        samples: Samples whose last 20 target tokens are scored; the paper takes 10 for figure
            1 and 50 for table 1.
        extended: Target tokens to score beside them at least; 0 for none.
        nucleus: Share of the next token's probability that is summed over.
        max_branches: Most tokens summed over; None for no limit but memory's.
        seed: Seed of the order of samples and of the bootstrap.

    Raises:
        SettingsError: If one of them is outside what is allowed.
    """

    samples: int = 10
    extended: int = 2_000
    nucleus: float = 0.99
    max_branches: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise SettingsError(f"--samples must be at least 1, got {self.samples}")
        if self.extended < 0:
            raise SettingsError(f"--extended must be 0 (none) or more, got {self.extended}")
        if not 0 < self.nucleus <= 1:
            raise SettingsError(f"--nucleus must be above 0 and at most 1, got {self.nucleus}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise SettingsError(f"--seed must be in 0 .. 2**63 - 1, got {self.seed}")
        if self.max_branches is not None and self.max_branches < 1:
            raise SettingsError(f"--max-branches must be at least 1, got {self.max_branches}")

    def truncation(self, vocab_size: int) -> Truncation:
        """Return the nucleus, without a limit on branches where memory allows it.

        >>> Protocol().truncation(2_048).max_branches, Protocol().truncation(50_304).max_branches
        (2048, 7115)
        """
        most = BRANCH_BYTES // (vocab_size * BYTES_A_PROBABILITY)
        return Truncation("nucleus", self.nucleus, self.max_branches or min(vocab_size, most))

    def draw(self, samples: Iterator[Sample]) -> list[Sample]:
        """Take the paper's samples, and more until the extended positions are reached."""
        drawn: list[Sample] = []
        count = 0
        for sample in samples:
            drawn.append(sample)
            count += int(sample.target.sum())
            if len(drawn) >= self.samples and count >= self.extended:
                break
        return drawn


@dataclass(frozen=True)
class Subject:
    """A model as the protocol runs it.

    Attributes:
        model: A Hugging Face causal language model.
        anatomy: Its anatomy.
        name: What to call it while it is run.
    """

    model: Any
    anatomy: Anatomy
    name: str

    def stream(self, sample: Sample, layers: Iterable[int]) -> residual_stream.ResidualStream:
        """Return the residual stream of one sample, nothing packed, nothing padded."""
        ids = sample.token_ids[None]
        return residual_stream.stream(self.model, self.anatomy, ids, layers, batch_size=1)


def scored(
    subject: Subject,
    samples: Sequence[Sample],
    readouts: Mapping[int, Sequence[Readout]],
    protocol: Protocol,
) -> pd.DataFrame:
    """Return what readouts hit, summed by sample, offset and set of positions.

    The targets are the same at every offset: a target token is predicted from the position
    `offset` tokens before it.

    Args:
        subject: The model.
        samples: What `Protocol.draw` took; their index is the number of the document.
        readouts: By offset, what to score there.
        protocol: How many samples the paper's positions are of.

    Returns:
        Rows of `probekit.scoring.score.score`; `positions` is `last 20` or `extended`.
    """
    tables = []
    bar = tqdm(enumerate(samples), subject.name, len(samples), leave=False, disable=None)
    for number, sample in bar:
        documents = torch.full((1, len(sample.token_ids)), number)
        for offset, own in readouts.items():
            layers = frozenset().union(*(readout.layers for readout in own))
            positions = _positions(sample, number, offset, protocol)
            targets = _targets(sample, offset)
            stream = subject.stream(sample, layers)
            tables.append(score(own, stream, targets, positions, documents))
    return pd.concat(tables, ignore_index=True)


def _positions(sample: Sample, number: int, offset: int, protocol: Protocol) -> dict[str, Mask]:
    """Return the positions asked from, by set; the paper's are of its samples alone."""
    found = {}
    if number < protocol.samples:
        found[PAPER] = asking(sample.last(LAST), offset)[None]
    if protocol.extended:
        found[EXTENDED] = asking(sample.target, offset)[None]
    return found


def _targets(sample: Sample, offset: int) -> Targets:
    ids = sample.token_ids.roll(-offset)[None]  # what is rolled around is never asked for
    return Targets("text", {offset: ids}, {offset: asking(sample.target, offset)[None]})


@dataclass(frozen=True)
class Accuracy:
    """Top-5 accuracy of one readout at one offset on one set of positions.

    Attributes:
        share: The share with its interval.
        samples: Samples that the positions are of.
        kind: "Wilson" (positions taken as independent) or "bootstrap" (over samples).
    """

    share: Share
    samples: int
    kind: Literal["Wilson", "bootstrap"]


def accuracy(table: pd.DataFrame, readout: str, offset: int, name: str, seed: int) -> Accuracy:
    """Return the top-5 accuracy of a readout at an offset on a set of positions.

    Args:
        table: What `scored` returned.
        readout: Its name.
        offset: Its offset.
        name: `last 20`: Wilson interval over positions; `extended`: bootstrap over samples.
        seed: Seed of the bootstrap.
    """
    mine = (table["readout"] == readout) & (table["offset"] == offset)
    rows = table[mine & (table["positions"] == name)]
    hits, n = (rows[column].to_numpy(np.float64) for column in ("top5_sum", "n"))
    if name == PAPER:
        share = Share.of(float(hits.sum() / n.sum()), int(n.sum()))
        return Accuracy(share, len(rows), "Wilson")
    return Accuracy(resampled(hits, n, seed), len(rows), "bootstrap")


def resampled(sums: Any, n: Any, seed: int) -> Share:
    """Return a rate over positions with its interval from a bootstrap over samples.

    Args:
        sums: What was summed in each sample, shape (samples,).
        n: Positions of each sample, shape (samples,).
        seed: Seed of the bootstrap.
    """
    weights = document_bootstrap(len(n), RESAMPLES, seed)
    rates = (weights @ sums) / (weights @ n)
    low, high = interval(rates, float(effective_documents(n[:, None])[0]))
    return Share(float(sums.sum() / n.sum()), low, high, int(n.sum()))


@dataclass(frozen=True)
class Kept:
    """What marginalization kept on one set of positions.

    Attributes:
        branches_mean: Mean number of next tokens summed over, as in the paper's figure 4.
        mass_mean: Mean probability that they hold.
        mass_min: Least of them.
        max_branches: Most branches that were allowed.
    """

    branches_mean: float
    mass_mean: float
    mass_min: float
    max_branches: int


def top5(
    subject: Subject, samples: Sequence[Sample], protocol: Protocol
) -> tuple[pd.DataFrame, dict[str, Kept]]:
    """Score the model at the next token and its marginalization at the second.

    Returns:
        The rows of `scored`, and by set of positions what marginalization kept.
    """
    truncation = protocol.truncation(subject.anatomy.vocab_size)
    ceiling = Marginalization(BranchEngine(subject.model), truncation)
    readouts: dict[int, list[Readout]] = {
        NEXT: [logit_lens.Model(subject.anatomy)],
        SECOND: [ceiling],
    }
    table = scored(subject, samples, readouts, protocol)
    return table, _kept(ceiling, samples, protocol)


def _kept(
    ceiling: Marginalization, samples: Sequence[Sample], protocol: Protocol
) -> dict[str, Kept]:
    """Return what was kept by set; records are in order of sample and position."""
    sets: dict[str, list[Tensor]] = {}
    for number, sample in enumerate(samples):
        positions = _positions(sample, number, SECOND, protocol)
        union = torch.stack(list(positions.values())).any(dim=0) if positions else None
        for name in (PAPER, EXTENDED):
            mask = positions.get(name)
            if union is not None:
                none = torch.zeros_like(union)
                sets.setdefault(name, []).append((none if mask is None else mask)[union])
    found = {}
    branches = torch.tensor([record.branches for record in ceiling.records], dtype=torch.float64)
    mass = torch.tensor([record.retained_mass for record in ceiling.records], dtype=torch.float64)
    for name, masks in sets.items():
        chosen = torch.cat(masks)
        if chosen.any():
            own = mass[chosen]
            found[name] = Kept(
                float(branches[chosen].mean()),
                float(own.mean()),
                float(own.min()),
                ceiling.truncation.max_branches,
            )
    return found


def divergence(
    subject: Subject, samples: Sequence[Sample], seed: int
) -> list[tuple[int, float, Share]]:
    """Return KL(lens || final) of layers 1 ... L - 1 where target tokens are predicted.

    Returns:
        Layer, depth (l - 1)/(L - 2) as in the paper's figure 2, and the mean in nats with its
        interval from a bootstrap over samples.
    """
    last = subject.anatomy.n_layers
    layers = range(1, last)
    tables = []
    for number, sample in enumerate(tqdm(samples, subject.name, leave=False, disable=None)):
        valid = asking(sample.target, NEXT)[None]
        documents = torch.full(valid.shape, number)
        stream = subject.stream(sample, [*layers, last])
        tables.append(logit_lens.divergences(stream, subject.anatomy, layers, valid, documents))
    table = pd.concat(tables, ignore_index=True)
    found = []
    for layer in layers:
        rows = table[table["layer"] == layer]
        sums, n = (rows[column].to_numpy(np.float64) for column in ("kl_sum", "n"))
        found.append((layer, (layer - 1) / max(last - 2, 1), resampled(sums, n, seed)))
    return found

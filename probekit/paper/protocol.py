"""The paper's way of scoring: top-5 accuracy on the last target tokens of each sample.

`score_readouts` takes any readouts, so that heads are scored where the model is. Beside the
paper's positions stands an extended set, every target token of more samples, with a bootstrap
over samples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probekit.activations import residual_stream
from probekit.data.prompted.pair_tokens import LAST, Sample
from probekit.data.targets import Targets
from probekit.errors import SettingsError
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.models.anatomy import Anatomy
from probekit.paper.means import Mean
from probekit.paper.samples import predicting_positions
from probekit.probes import logit_lens
from probekit.progress import bar
from probekit.readout import Readout
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
        """Take the paper's samples, then more until there are enough extended positions."""
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


def score_readouts(
    subject: Subject,
    samples: Sequence[Sample],
    readouts: Mapping[int, Sequence[Readout]],
    protocol: Protocol,
) -> pd.DataFrame:
    """Score readouts: hits summed by sample, offset and set of positions.

    The targets are the same at every offset: a target token is predicted from the position
    `offset` tokens before it.

    Args:
        subject: The model.
        samples: Samples taken by `Protocol.draw`; their index is the number of the document.
        readouts: Readouts to score, by offset.
        protocol: How many samples the paper's positions are of.

    Returns:
        Rows of `probekit.scoring.score.score`; `positions` is `last 20` or `extended`.
    """
    tables = []
    for number, sample in enumerate(bar(samples, subject.name)):
        documents = torch.full((1, len(sample.token_ids)), number)
        for offset, at_offset in readouts.items():
            layers = frozenset().union(*(readout.layers for readout in at_offset))
            positions = _positions(sample, number, offset, protocol)
            targets = _targets(sample, offset)
            stream = subject.stream(sample, layers)
            tables.append(score(at_offset, stream, targets, positions, documents))
    return pd.concat(tables, ignore_index=True)


def _positions(sample: Sample, number: int, offset: int, protocol: Protocol) -> dict[str, Mask]:
    """Return the predicting positions by set; the paper's are of its samples alone."""
    positions = {}
    if number < protocol.samples:
        positions[PAPER] = predicting_positions(sample.last(LAST), offset)[None]
    if protocol.extended:
        positions[EXTENDED] = predicting_positions(sample.target, offset)[None]
    return positions


def _targets(sample: Sample, offset: int) -> Targets:
    ids = sample.token_ids.roll(-offset)[None]  # no valid position has a target rolled around
    return Targets(
        "text", {offset: ids}, {offset: predicting_positions(sample.target, offset)[None]}
    )


@dataclass(frozen=True)
class Accuracy:
    """Top-5 accuracy of one readout at one offset on one set of positions.

    Attributes:
        share: Share of hits, with its interval.
        samples: Samples that hold the positions.
        kind: "Wilson" (positions taken as independent) or "bootstrap" (over samples).
    """

    share: Mean
    samples: int
    kind: Literal["Wilson", "bootstrap"]


def accuracy(table: pd.DataFrame, readout: str, offset: int, name: str, seed: int) -> Accuracy:
    """Return the top-5 accuracy of a readout at an offset on a set of positions.

    Args:
        table: Rows of `score_readouts`.
        readout: Name of the readout.
        offset: Its offset.
        name: Set of positions. The interval of `last 20` is Wilson's, over positions; that of
            `extended` is from a bootstrap over samples.
        seed: Seed of the bootstrap.
    """
    of_readout = (table["readout"] == readout) & (table["offset"] == offset)
    rows = table[of_readout & (table["positions"] == name)]
    hits, n = (rows[column].to_numpy(np.float64) for column in ("top5_sum", "n"))
    if name == PAPER:
        share = Mean.wilson(float(hits.sum() / n.sum()), int(n.sum()))
        return Accuracy(share, len(rows), "Wilson")
    return Accuracy(Mean.bootstrap(hits, n, seed), len(rows), "bootstrap")


@dataclass(frozen=True)
class BranchStatistics:
    """Next tokens that marginalization summed over, on one set of positions.

    Attributes:
        branches_mean: Mean number of next tokens summed over, as in the paper's figure 4.
        mass_mean: Mean probability of these tokens together.
        mass_min: The least of it at any position.
        max_branches: Most branches that were allowed.
    """

    branches_mean: float
    mass_mean: float
    mass_min: float
    max_branches: int


def score_model(
    subject: Subject, samples: Sequence[Sample], protocol: Protocol
) -> tuple[pd.DataFrame, dict[str, BranchStatistics]]:
    """Score the model at the next token and its marginalization at the second.

    Returns:
        The rows of `score_readouts`, and the branches of marginalization by set of positions.
    """
    truncation = protocol.truncation(subject.anatomy.vocab_size)
    ceiling = Marginalization(BranchEngine(subject.model), truncation)
    readouts: dict[int, list[Readout]] = {
        NEXT: [logit_lens.Model(subject.anatomy)],
        SECOND: [ceiling],
    }
    table = score_readouts(subject, samples, readouts, protocol)
    return table, _branch_statistics(ceiling, samples, protocol)


def _branch_statistics(
    ceiling: Marginalization, samples: Sequence[Sample], protocol: Protocol
) -> dict[str, BranchStatistics]:
    """Return the branches by set of positions; records are in order of sample and position."""
    sets: dict[str, list[Tensor]] = {}
    for number, sample in enumerate(samples):
        positions = _positions(sample, number, SECOND, protocol)
        union = torch.stack(list(positions.values())).any(dim=0) if positions else None
        for name in (PAPER, EXTENDED):
            mask = positions.get(name)
            if union is not None:
                none = torch.zeros_like(union)
                sets.setdefault(name, []).append((none if mask is None else mask)[union])
    statistics = {}
    branches = torch.tensor([record.branches for record in ceiling.records], dtype=torch.float64)
    mass = torch.tensor([record.retained_mass for record in ceiling.records], dtype=torch.float64)
    for name, masks in sets.items():
        chosen = torch.cat(masks)
        if chosen.any():
            statistics[name] = BranchStatistics(
                float(branches[chosen].mean()),
                float(mass[chosen].mean()),
                float(mass[chosen].min()),
                ceiling.truncation.max_branches,
            )
    return statistics


def divergence(
    subject: Subject, samples: Sequence[Sample], seed: int
) -> list[tuple[int, float, Mean]]:
    """Return KL(lens || final) of layers 1 ... L - 1 where target tokens are predicted.

    Returns:
        Layer, depth (l - 1)/(L - 2) as in the paper's figure 2 (1 of a model of two blocks), and
        the mean in nats with its interval from a bootstrap over samples.
    """
    last = subject.anatomy.n_layers
    layers = range(1, last)
    tables = []
    for number, sample in enumerate(bar(samples, subject.name)):
        valid = predicting_positions(sample.target, NEXT)[None]
        documents = torch.full(valid.shape, number)
        stream = subject.stream(sample, [*layers, last])
        tables.append(logit_lens.divergences(stream, subject.anatomy, layers, valid, documents))
    table = pd.concat(tables, ignore_index=True)
    divergences = []
    for layer in layers:
        rows = table[table["layer"] == layer]
        sums, n = (rows[column].to_numpy(np.float64) for column in ("kl_sum", "n"))
        # The only layer of a backbone is its last: depth 1, where the paper has that.
        depth = (layer - 1) / (last - 2) if last > 2 else 1.0
        divergences.append((layer, depth, Mean.bootstrap(sums, n, seed)))
    return divergences

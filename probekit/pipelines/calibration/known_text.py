"""Texts whose cross-entropies have a closed form, measured in memory as an analysis measures.

    markov.MarkovChain      the next token depends on the last one or two; the model is exact
    planted_signal.Planted  a model that holds the token at t + 2 at some layers alone

`KnownTextRun` lays such a text out as blocks and takes them through the residual stream,
probes, n-grams, marginalization and the scorer. It writes no files and needs no tokenizer.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import pandas as pd
import torch
from transformers import LlamaForCausalLM

from probekit.activations.residual_stream import ResidualStream, stream
from probekit.data.blocks import OUTSIDE, Blocks
from probekit.data.documents import SPLITS, Split
from probekit.data.targets import Targets, draw_positions, text_targets
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.marginalization.sampled_nats import NatsSampler
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes import linear, ngram
from probekit.probes.logit_lens import LogitLens, Model
from probekit.probes.ngram import SkipBigram, Unigram
from probekit.probes.probe import Probes
from probekit.readout import Readout
from probekit.scoring.rates import DocumentSums
from probekit.scoring.score import score
from probekit.shapes import TokenIds

SEQUENCES: Mapping[Split, int] = {"train": 400, "validation": 100, "test": 200}
LENGTH = 48
HORIZON = 4
# Positions of a sequence that are marginalized, and paths: all that there are of 6 tokens.
MARGINALIZED = 3
PATHS = 6 ** (HORIZON - 1)
BATCH = 64


@runtime_checkable
class KnownText(Protocol):
    """A stationary text, and a model of it."""

    @property
    def unscored(self) -> int:
        """Positions at the start of a sequence at which the model lacks tokens it needs."""
        ...

    def sample(self, n: int, length: int, generator: torch.Generator) -> TokenIds:
        """Draw n sequences of so many tokens, shape (n, length)."""
        ...

    def model(self) -> LlamaForCausalLM:
        """Return the model, in eval mode."""
        ...


def sample_blocks(
    text: KnownText, n: int, length: int, generator: torch.Generator, first: int = 0
) -> Blocks:
    """Draw sequences and lay them out: each is a block and a document, without BOS and end.

    Args:
        text: The text to draw from.
        n: Number of sequences.
        length: Tokens of each.
        generator: Source of randomness.
        first: Number of the first document.

    Returns:
        Blocks of shape (n, length); positions that the text does not score belong to no document.
    """
    token_ids = text.sample(n, length, generator)
    documents = torch.arange(first, first + n)[:, None].repeat(1, length)
    documents[:, : text.unscored] = OUTSIDE
    return Blocks(token_ids, documents)


class KnownTextRun:
    """An analysis of one known text in memory.

    Attributes:
        name: Name of the text, its only domain.
        seed: Seed of text and positions.
        model: The model of the text.
        anatomy: Anatomy of the model.
        layers: All its layers.
        blocks: Token blocks by split.
        targets: Targets by split.
        streams: The residual stream of every layer, by split.
        marginalized: Test positions that are marginalized, shape (block, pos).
    """

    def __init__(self, name: str, text: KnownText, seed: int) -> None:
        self.name, self.seed = name, seed
        self.model = text.model()
        self.anatomy: Anatomy = find_anatomy(self.model)
        self.layers = range(self.anatomy.n_layers + 1)
        generator = torch.Generator().manual_seed(seed)
        self.blocks: dict[Split, Blocks] = {}
        n_documents = 0
        for split in SPLITS:
            n = SEQUENCES[split]
            self.blocks[split] = sample_blocks(text, n, LENGTH, generator, n_documents)
            n_documents += n
        self.domains = [name] * n_documents
        self.targets = {s: text_targets(blocks, HORIZON) for s, blocks in self.blocks.items()}
        self.streams: dict[Split, ResidualStream] = {
            split: stream(
                self.model, self.anatomy, blocks.token_ids, self.layers,
                batch_size=BATCH, store="memory",
            )
            for split, blocks in self.blocks.items()
        }  # fmt: skip
        count = MARGINALIZED * SEQUENCES["test"]
        self.marginalized = draw_positions(self.blocks["test"], self.domains, HORIZON, count, seed)

    def probes(self, targets: Mapping[Split, Targets]) -> Probes:
        """Fit linear probes at every layer."""
        train, validation = ((self.streams[s], targets[s]) for s in ("train", "validation"))
        return linear.fit(train, validation, self.anatomy, self.layers)

    def ngrams(self, targets: Mapping[Split, Targets]) -> tuple[Unigram, SkipBigram]:
        """Count unigrams and skip-bigrams."""
        train, validation = (
            (self.blocks[s].token_ids, targets[s]) for s in ("train", "validation")
        )
        return ngram.fit(train, validation, self.anatomy.vocab_size)

    def ceiling(self, nucleus: float) -> Marginalization:
        """Return the marginalized model."""
        return Marginalization(BranchEngine(self.model), Truncation("nucleus", nucleus, PATHS))

    def sampled(self, n_kept: int, n_paths: int) -> pd.DataFrame:
        """Return the model's cross-entropies at the marginalized positions, by sampled paths.

        Args:
            n_kept: Paths that are summed exactly.
            n_paths: Paths of each group, beside these.
        """
        top = Truncation("top", max_branches=n_kept)
        sampler = NatsSampler(BranchEngine(self.model), None, top, n_paths, self.seed)
        return sampler.nats(self.streams["test"], self.targets["test"], self.marginalized)

    def measure(self) -> DocumentSums:
        """Fit and score all readouts, the ceiling on the marginalized positions alone."""
        fitted: list[Readout] = [self.probes(self.targets), *self.ngrams(self.targets)]
        unfitted: list[Readout] = [Model(self.anatomy), LogitLens(list(self.layers), self.anatomy)]
        ceiling = self.ceiling(1.0)
        return self.sums(
            self.score("validation", fitted, self.targets),
            self.score("test", [*unfitted, *fitted], self.targets),
            self.score("test", [ceiling], self.targets, marginalized_only=True),
        )

    def score(
        self,
        split: Split,
        readouts: Sequence[Readout],
        targets: Mapping[Split, Targets],
        marginalized_only: bool = False,
    ) -> pd.DataFrame:
        """Score readouts on a split: sums by document, readout, offset and set of positions."""
        documents = self.blocks[split].documents
        positions = {} if marginalized_only else {"all": documents >= 0}
        if split == "test":
            positions["marginal"] = self.marginalized
        table = score(readouts, self.streams[split], targets[split], positions, documents)
        return table.assign(split=split)

    def sums(self, *tables: pd.DataFrame) -> DocumentSums:
        """Return tables of `score` together."""
        table = pd.concat(tables, ignore_index=True).assign(seed=self.seed)
        return DocumentSums(table, self.domains, [1.0] * len(self.domains), self.seed)

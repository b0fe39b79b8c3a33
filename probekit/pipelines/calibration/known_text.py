"""A text with a known answer, measured as an analysis measures, without its files."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor

from probekit.activations.residual_stream import ResidualStream, stream
from probekit.data.documents import SPLITS, Split
from probekit.data.targets import Targets, draw_positions, text_targets
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginalize import Marginalization
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.pipelines.analysis import verdict
from probekit.pipelines.analysis.verdict import Findings
from probekit.pipelines.calibration.known import Known, blocks
from probekit.probes import linear, logit_lens, ngram
from probekit.probes.ngram import SkipBigram, Unigram
from probekit.probes.probe import Probes
from probekit.readout import Readout
from probekit.scoring.rates import DocumentSums, Rates
from probekit.scoring.score import score

SEQUENCES: Mapping[Split, int] = {"train": 400, "validation": 100, "test": 200}
LENGTH = 48
HORIZON = 4
# Positions of a sequence that are marginalized, and paths: all that there are of 6 tokens.
MARGINALIZED = 3
PATHS = 6 ** (HORIZON - 1)
BATCH = 64


class Rehearsal:
    """All of an analysis but its files: blocks, streams, probes, floors, ceiling, scores.

    Attributes:
        name: Name of the text, its only domain.
        seed: Seed of text and positions.
        anatomy: Anatomy of the model.
        targets: Targets by split.
        streams: The residual stream of every layer, by split.
    """

    def __init__(self, name: str, text: Known, seed: int) -> None:
        self.name, self.seed = name, seed
        self.model = text.model()
        self.anatomy: Anatomy = find_anatomy(self.model)
        self.layers = range(self.anatomy.n_layers + 1)
        draw = torch.Generator().manual_seed(seed)
        first = 0
        self.blocks = {}
        for split in SPLITS:
            self.blocks[split] = blocks(text, SEQUENCES[split], LENGTH, draw, first)
            first += SEQUENCES[split]
        self.n_documents = first
        self.targets = {s: text_targets(part, HORIZON) for s, part in self.blocks.items()}
        self.streams: dict[Split, ResidualStream] = {
            split: stream(
                self.model, self.anatomy, part.token_ids, self.layers,
                batch_size=BATCH, store="memory",
            )
            for split, part in self.blocks.items()
        }  # fmt: skip

    def fit(self, targets: Mapping[Split, Targets]) -> Probes:
        """Fit linear probes at every layer."""
        train, validation = ((self.streams[s], targets[s]) for s in ("train", "validation"))
        return linear.fit(train, validation, self.anatomy, self.layers)

    def floors(self, targets: Mapping[Split, Targets]) -> tuple[Unigram, SkipBigram]:
        """Count unigrams and skip-bigrams."""
        parts = [(self.blocks[s].token_ids, targets[s]) for s in ("train", "validation")]
        return ngram.fit(parts[0], parts[1], self.anatomy.vocab_size)

    def ceiling(self, nucleus: float) -> Marginalization:
        """Return the marginalized model."""
        return Marginalization(BranchEngine(self.model), Truncation("nucleus", nucleus, PATHS))

    @cached_property
    def drawn(self) -> Tensor:
        """Where the test split is marginalized, shape (block, pos)."""
        count = MARGINALIZED * SEQUENCES["test"]
        names = [self.name] * self.n_documents
        return draw_positions(self.blocks["test"], names, HORIZON, count, self.seed)

    @cached_property
    def sums(self) -> DocumentSums:
        """The scores of all readouts."""
        probes = self.fit(self.targets)
        floors = self.floors(self.targets)
        own: list[Readout] = [
            logit_lens.Model(self.anatomy),
            logit_lens.LogitLens(list(self.layers), self.anatomy),
        ]
        tables = [
            self.scored("validation", [probes, *floors], self.targets),
            self.scored("test", [*own, probes, *floors], self.targets),
            self.scored("test", [self.ceiling(1.0)], self.targets, marginal_only=True),
        ]
        return self.tallied(tables)

    def tallied(self, tables: Sequence[pd.DataFrame]) -> DocumentSums:
        """Return tables of scores as one sums."""
        table = pd.concat(tables, ignore_index=True).assign(seed=self.seed)
        names, sizes = [self.name] * self.n_documents, [1.0] * self.n_documents
        return DocumentSums(table, names, sizes, self.seed)

    def scored(
        self,
        split: Split,
        readouts: Sequence[Readout],
        targets: Mapping[Split, Targets],
        marginal_only: bool = False,
    ) -> pd.DataFrame:
        """Score readouts on a split."""
        documents = self.blocks[split].documents
        positions = {} if marginal_only else {"all": documents >= 0}
        if split == "test":
            positions["marginal"] = self.drawn
        found = score(readouts, self.streams[split], targets[split], positions, documents)
        return found.assign(split=split)

    def rates(self, positions: str) -> Rates:
        """Return the rates on test positions."""
        return self.sums.rates(self.name, "test", positions)

    @cached_property
    def findings(self) -> Findings:
        """What follows from the scores."""
        return verdict.findings(self.sums, self.anatomy.n_layers, HORIZON)

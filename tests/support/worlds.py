"""Worlds with known answers that tests share."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from probekit.activations.residual_stream import stream
from probekit.data.blocks import Blocks
from probekit.data.targets import Targets, draw_positions, text_targets
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.pipelines.calibration.known_text import sample_blocks
from probekit.pipelines.calibration.markov import MarkovChain
from probekit.pipelines.calibration.planted_signal import Planted
from probekit.probes import linear, ngram
from probekit.readout import Readout, Seen
from probekit.scoring.rates import DocumentSums
from probekit.scoring.score import score

LENGTH = 32
EVERYTHING = Truncation(nucleus=1.0, max_branches=125)
ROUNDING = 1e-6


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain(n_tokens: int, order: int, seed: int = 0, zeros: bool = True) -> MarkovChain:
    """Return a random chain, sharp as language is, in which some tokens cannot follow others."""
    shape = (n_tokens,) * (order + 1)
    weights = torch.rand(shape, generator=seeded(seed), dtype=torch.float64).pow(3) + 0.01
    if zeros:
        weights[..., 0][weights[..., 0] < 0.1] = 0
    return MarkovChain(weights / weights.sum(dim=-1, keepdim=True))


def log_probs(model: LlamaForCausalLM, token_ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(token_ids, use_cache=False).logits
    return logits.log_softmax(-1)


def ahead(of: MarkovChain, offset: int) -> Tensor:
    """Return P(x_{t+k} given the state), summed path by path from the definition."""
    table = of.transition
    for _ in range(offset - 1):
        if of.order == 1:
            table = torch.einsum("ab,bc->ac", of.transition, table)
        else:
            table = torch.einsum("abc,bcd->abd", of.transition, table)
    return table.flatten(0, -2)


def marginals(
    text: MarkovChain, token_ids: Tensor, offsets: range, truncation: Truncation
) -> Mapping[int, tuple[Tensor, Tensor, Tensor]]:
    """Return by offset probabilities, retained mass and bound of every position of one block."""
    engine = BranchEngine(text.model())
    assert engine.route == "packed"
    readout = Marginalization(engine, truncation)
    valid = {k: torch.ones(1, len(token_ids), dtype=torch.bool) for k in offsets}
    found = dict(readout.predict(Seen(token_ids[None], {}), valid))
    assert readout.check is not None
    assert "packed differs" in readout.check.message
    result = {}
    for cell, logits in found.items():
        rows = [row for row in readout.records if row.offset == cell.offset]
        mass = torch.tensor([row.retained_mass for row in rows], dtype=torch.float64)
        bound = torch.tensor([1 - row.retained_mass for row in rows], dtype=torch.float64)
        result[cell.offset] = logits.double().exp(), mass, bound
    return result


class World:
    """A text with a known answer, its model, and blocks of it in three splits."""

    def __init__(
        self,
        text: MarkovChain | Planted,
        horizon: int,
        sizes: Mapping[str, int],
        model: LlamaForCausalLM | None = None,
        first_seed: int = 0,
    ) -> None:
        self.text, self.horizon, self.model = text, horizon, model or text.model()
        self.anatomy: Anatomy = find_anatomy(self.model)
        self.layers = list(range(self.anatomy.n_layers + 1))
        self.parts: dict[str, Blocks] = {}
        self.n_documents = 0
        for seed, (name, n) in enumerate(sizes.items(), start=first_seed):
            self.parts[name] = sample_blocks(text, n, LENGTH, seeded(seed), self.n_documents)
            self.n_documents += n
        self.targets = {name: text_targets(part, horizon) for name, part in self.parts.items()}

    def batches(self, split: str) -> list[Seen]:
        ids = self.parts[split].token_ids
        return list(stream(self.model, self.anatomy, ids, self.layers, batch_size=len(ids)))

    def fitted(self, targets: Mapping[str, Targets], layers: list[int]) -> Readout:
        train, validation = ((self.batches(s), targets[s]) for s in ("train", "validation"))
        return linear.fit(train, validation, self.anatomy, layers)

    def floors(self) -> tuple[Readout, Readout]:
        parts = [(self.parts[s].token_ids, self.targets[s]) for s in ("train", "validation")]
        return ngram.fit(parts[0], parts[1], self.model.config.vocab_size)

    def ceiling(self) -> Readout:
        everything = Truncation(nucleus=1.0, max_branches=216)
        return Marginalization(BranchEngine(self.model), everything)

    def positions(self, split: str, per_document: int | None = None) -> Tensor:
        """Return some positions of each document, or all."""
        part = self.parts[split]
        if per_document is None:
            return torch.ones_like(part.token_ids, dtype=torch.bool)
        count = per_document * len(part.token_ids)
        return draw_positions(part, ["one"] * self.n_documents, self.horizon, count, seed=0)

    def scored(
        self,
        readouts: Sequence[Readout],
        split: str,
        positions: Mapping[str, Tensor],
        targets: Targets | None = None,
    ) -> pd.DataFrame:
        wanted = self.targets[split] if targets is None else targets
        documents = self.parts[split].documents
        table = score(readouts, self.batches(split), wanted, positions, documents)
        return table.assign(split=split, seed=0)

    def sums(self, *tables: pd.DataFrame) -> DocumentSums:
        return DocumentSums(
            pd.concat(tables, ignore_index=True),
            ["one"] * self.n_documents,
            [1.0] * self.n_documents,
        )

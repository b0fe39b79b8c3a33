"""The accepted length that scores foretell: every position counts, not only those of passes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from probekit.activations.residual_stream import stream
from probekit.data.blocks import OUTSIDE, Blocks
from probekit.data.targets import Targets, text_targets
from probekit.drafting.generate import Drafted
from probekit.drafting.measure import Prompt
from probekit.pipelines.drafting.candidates import Candidate
from probekit.readout import Cell, Readout, Seen
from probekit.runs.setup import Setup
from probekit.scoring.rates import DocumentSums
from probekit.scoring.score import score
from probekit.shapes import Logits, Mask, TokenIds

POSITIONS = "drafted"  # those that have a target at every offset


@dataclass(frozen=True)
class OneCell:
    """A readout whose cells at several layers count as one, so that hits are joint over them.

    Attributes:
        name: What it is called.
        readout: The readout.
        newest: The token at t+1 of all blocks, for a readout that is told it; else None.
        layers: Layers that it reads.
    """

    name: str
    readout: Readout
    newest: TokenIds | None = None
    layers: frozenset[int] = field(default=frozenset())

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield what the readout says, offset by offset."""
        ahead = int(self.newest is not None)
        if self.newest is not None:
            tokens = self.newest[seen.blocks].to(seen.token_ids.device)
            seen = Seen(tokens, seen.resid, seen.first_block)
        valid = {offset - ahead: valid[offset] for offset in sorted(valid)}
        # Of several layers, cells would come layer by layer.
        parts = [{k: mask} for k, mask in valid.items()] if self.layers else [valid]
        for part in parts:
            for cell, logits in self.readout.predict(seen, part):
                yield Cell(self.name, cell.offset + ahead, None, not ahead), logits


def predicted(
    candidates: Sequence[Candidate],
    setup: Setup,
    blocks: Blocks,
    targets: Targets,
    seed: int,
) -> DocumentSums:
    """Score candidates where every offset has a target, as positions `drafted` of split `test`.

    Args:
        candidates: What drafts; those without a readout are left out.
        setup: Model and text.
        blocks: Token blocks.
        targets: What the model itself continues these blocks with, from offset 1 on.
        seed: Seed of the resampling.
    """
    readouts = [
        OneCell(c.name, c.readout, targets.ids[1] if c.ahead else None, c.readout.layers)
        for c in candidates
        if c.readout is not None
    ]
    layers = frozenset().union(*(readout.layers for readout in readouts))
    seen = stream(
        setup.loaded.model,
        setup.anatomy,
        blocks.token_ids,
        layers,
        batch_size=setup.plan.batch_size,
    )
    horizon = max(targets.valid)
    later = targets.only(range(2, horizon + 1))
    positions = {POSITIONS: targets.valid[horizon]}
    table = score(readouts, seen, later, positions, blocks.documents)
    table = table.assign(split="test", seed=seed)
    return DocumentSums(table, setup.domains, setup.bytes_per_token, seed)


def as_blocks(
    drafted: Sequence[Drafted], prompts: Sequence[Prompt], horizon: int
) -> tuple[Blocks, Targets]:
    """Return continued prompts as blocks, one each, and their own tokens as targets.

    Positions begin with the last of the prompt, at which the first draft is made.
    """
    length = max(each.token_ids.shape[1] for each in drafted)
    token_ids = torch.zeros(len(drafted), length, dtype=torch.long)
    documents = torch.full_like(token_ids, OUTSIDE)
    for row, (each, prompt) in enumerate(zip(drafted, prompts, strict=True)):
        text = each.token_ids[0].cpu()
        token_ids[row, : len(text)] = text
        documents[row, prompt.token_ids.shape[1] - 1 : len(text)] = prompt.document
    blocks = Blocks(token_ids, documents)
    return blocks, text_targets(blocks, horizon)


def prompts_of(setup: Setup, domain: str, count: int, length: int) -> list[Prompt]:
    """Return prompts from the test documents of a domain.

    The beginning of each document in turn; then, if those are not enough, what follows it. Of a
    document that brings a prompt, that.

    Args:
        setup: Model and text.
        domain: Name of the text.
        count: How many, at most.
        length: Tokens of each, BOS not counted.
    """
    bos = setup.parting.separator.bos
    begins = [] if bos is None else [bos]
    device = setup.loaded.model.device
    found: list[tuple[int, int, list[int]]] = []
    for number, document in enumerate(setup.documents):
        if document.domain == domain and document.split == "test":
            for turn, ids in enumerate(_windows(document.ids, document.prompt, length)):
                found.append((turn, number, ids))
    found.sort(key=lambda each: each[:2])
    return [
        Prompt(torch.tensor([[*begins, *ids]], device=device), number)
        for _, number, ids in found[:count]
    ]


def _windows(ids: Sequence[int], prompt: int, length: int) -> Iterable[list[int]]:
    if prompt:
        return [list(ids[:prompt])]
    return [list(ids[at : at + length]) for at in range(0, len(ids) - length + 1, length)]

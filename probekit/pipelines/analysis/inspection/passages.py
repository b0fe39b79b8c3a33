"""What readouts say at each token of a few passages of held-out text.

The passages are few, so that a page can hold for each of their tokens the loss, the rank of
the target and the first tokens of every readout, layer and offset.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit.data.blocks import OUTSIDE, Blocks
from probekit.data.targets import Targets
from probekit.data.token_text import spell
from probekit.errors import DataError
from probekit.readout import Cell, Readout, Seen
from probekit.runs.folder import PASSAGES
from probekit.scoring.losses import finite_losses
from probekit.scoring.score import predictions
from probekit.shapes import Logits, Targets1d

MOST_TOKENS = 160
MOST_LAYERS = 9
FIRST = 5
# A passage is to be long enough to be read, and there is to be more than one of a domain.
USUAL_TOKENS = 40
SHORTEST_SHARE = 20


class TokenReading(NamedTuple):
    """What a readout says at one position: loss and rank of the target, the first tokens."""

    nats: float
    rank: int
    top: list[int]
    probs: list[float]


BlockPosition = tuple[int, int]  # block and position
# Readouts, and the stream that they read.
ReadoutsOnStream = tuple[Sequence[Readout], Iterable[Seen]]


@dataclass(frozen=True)
class Passage:
    """Consecutive tokens of one document in one block.

    Attributes:
        domain: Domain of the document.
        document: Number of the document.
        block: Index of the block.
        position: Position of the first token in the block.
        length: Number of tokens.
    """

    domain: str
    document: int
    block: int
    position: int
    length: int

    @property
    def positions(self) -> Iterator[BlockPosition]:
        """Block and position of each token."""
        return ((self.block, self.position + i) for i in range(self.length))


def chosen_layers(layers: Sequence[int]) -> list[int]:
    """Return nine of the layers at most, spread evenly, the first and the last among them.

    >>> chosen_layers(range(4)), chosen_layers(range(33))
    ([0, 1, 2, 3], [0, 4, 8, 12, 16, 20, 24, 28, 32])
    """
    if len(layers) <= MOST_LAYERS:
        return list(layers)
    last, steps = len(layers) - 1, MOST_LAYERS - 1
    return [layers[round(step * last / steps)] for step in range(MOST_LAYERS)]


def choose(
    blocks: Blocks, domains: Sequence[str], horizon: int, seed: int, most: int = MOST_TOKENS
) -> list[Passage]:
    """Choose passages of so many tokens in all at most, shared equally among the domains.

    Those are drawn first in which every token has a target at each offset. Beyond eight domains
    the others are left out: a passage of fewer than twenty tokens tells a reader little.

    Args:
        blocks: Blocks of one split.
        domains: Domain of each document number.
        horizon: The largest offset.
        seed: Seed of the draw.
        most: Tokens of all passages.

    Raises:
        DataError: If no document has two tokens in one block.
    """
    generator = torch.Generator().manual_seed(seed)
    by_domain: dict[str, list[Passage]] = {domain: [] for domain in domains}
    for stretch in _stretches(blocks, domains):
        by_domain[stretch.domain].append(stretch)
    chosen = [stretches for stretches in by_domain.values() if stretches]
    chosen = chosen[: most // SHORTEST_SHARE]
    if not chosen:
        raise DataError("no document has two tokens in one block: there is nothing to inspect")
    share = most // len(chosen)
    return [
        passage for stretches in chosen for passage in _drawn(stretches, share, horizon, generator)
    ]


def _stretches(blocks: Blocks, domains: Sequence[str]) -> Iterator[Passage]:
    """Yield what lies of each document in each block, if it has a target."""
    for index, row in enumerate(blocks.documents):
        owners, lengths = row.unique_consecutive(return_counts=True)
        starts = lengths.cumsum(0) - lengths
        for document, length, start in zip(
            owners.tolist(), lengths.tolist(), starts.tolist(), strict=True
        ):
            if document != OUTSIDE and length > 1:
                yield Passage(domains[document], document, index, start, length)


def _drawn(
    stretches: Sequence[Passage], share: int, horizon: int, generator: torch.Generator
) -> Iterator[Passage]:
    usual = share // max(1, share // USUAL_TOKENS)
    order = torch.randperm(len(stretches), generator=generator).tolist()
    # Where none is long enough, the longest ones first.
    order.sort(key=lambda i: -min(stretches[i].length, usual + horizon))
    left = share
    for stretch in (stretches[i] for i in order):
        length = min(usual, left, stretch.length)
        spare = max(stretch.length - horizon - length, 0)
        skipped = int(torch.randint(spare + 1, (), generator=generator))
        if length > 0:
            position = stretch.position + skipped
            yield Passage(stretch.domain, stretch.document, stretch.block, position, length)
        left -= length


@torch.no_grad()
def record(
    passages: Sequence[Passage],
    runs: Iterable[ReadoutsOnStream],
    blocks: Blocks,
    targets: Targets,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """Return what readouts say at each token of the passages: the content of passages.json.

    Args:
        passages: Passages of these blocks.
        runs: Readouts, and the stream of these blocks that holds their layers. No cell twice.
        blocks: Token blocks.
        targets: Their targets.
        tokenizer: Spells the tokens.

    Raises:
        NumericalError: If a readout loses infinitely much or yields NaN.
    """
    inside = torch.zeros_like(blocks.token_ids, dtype=torch.bool)
    for block, position in (place for passage in passages for place in passage.positions):
        inside[block, position] = True
    targets_inside = targets.at(inside)
    readings: dict[Cell, dict[BlockPosition, TokenReading]] = {}
    for readouts, stream in runs:
        for seen in stream:
            for cell, of_batch in _readings_of_batch(readouts, seen, targets_inside):
                readings.setdefault(cell, {}).update(of_batch)
    return _document(passages, readings, blocks, targets_inside, tokenizer)


def _readings_of_batch(
    readouts: Sequence[Readout], seen: Seen, wanted: Targets
) -> Iterator[tuple[Cell, dict[BlockPosition, TokenReading]]]:
    """Yield for each cell what it says in one batch, by block and position."""
    for cell, logits, ids, mask in predictions(readouts, seen, wanted):
        places = [(seen.first_block + block, at) for block, at in mask.nonzero().tolist()]
        yield cell, dict(zip(places, _token_readings(cell, logits, ids), strict=True))


def _token_readings(cell: Cell, logits: Logits, targets: Targets1d) -> list[TokenReading]:
    """Return loss, rank of the target, first tokens and their probabilities, by position."""
    logits, targets = logits.float(), targets.to(logits.device)
    nats = finite_losses(cell, logits, targets).nats
    rank = 1 + (logits > logits.gather(1, targets[:, None])).sum(dim=1)
    tokens = first(logits, min(FIRST, logits.shape[1]))
    probs = (logits.gather(1, tokens) - logits.logsumexp(dim=1, keepdim=True)).exp()
    columns = nats.tolist(), rank.tolist(), tokens.tolist(), probs.tolist()
    return [
        TokenReading(round(loss, 4), place, top, [round(p, 4) for p in shares])
        for loss, place, top, shares in zip(*columns, strict=True)
    ]


def first(logits: Float[Tensor, "n vocab"], count: int) -> Int[Tensor, "n count"]:
    """Return the tokens of the largest logits in order, of equal ones the lower id first.

    >>> first(torch.tensor([[1.0, 3.0, 3.0, 0.0]]), 3)
    tensor([[1, 2, 0]])
    """
    # Taken ones become -inf, which no other is then. (torch.topk takes any of equal ones.)
    remaining, tokens = logits.clamp_min(torch.finfo(logits.dtype).min), []
    for _ in range(count):
        tokens.append(remaining.argmax(dim=1, keepdim=True))
        remaining.scatter_(1, tokens[-1], -torch.inf)
    return torch.cat(tokens, dim=1)


def _document(
    passages: Sequence[Passage],
    readings: Mapping[Cell, Mapping[BlockPosition, TokenReading]],
    blocks: Blocks,
    targets: Targets,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    used = {
        int(blocks.token_ids[position]) for passage in passages for position in passage.positions
    }
    used |= {int(i) for k, ids in targets.ids.items() for i in ids[targets.valid[k]]}
    all_readings = (reading for of_cell in readings.values() for reading in of_cell.values())
    used |= {token_id for reading in all_readings for token_id in reading.top}
    index = {token_id: number for number, token_id in enumerate(sorted(used))}
    return {
        "schema": PASSAGES,
        "target": targets.name,
        "layers": sorted({cell.layer for cell in readings if cell.layer is not None}),
        "offsets": sorted(targets.ids),
        "vocabulary": spell(tokenizer, sorted(used)),
        "passages": [_passage(passage, blocks, targets, index) for passage in passages],
        "readings": [
            _reading(cell, by_position, passages, index) for cell, by_position in readings.items()
        ],
    }


def _passage(
    passage: Passage, blocks: Blocks, targets: Targets, index: Mapping[int, int]
) -> dict[str, Any]:
    def target(offset: int, position: BlockPosition) -> int | None:
        has_target = bool(targets.valid[offset][position])
        return index[int(targets.ids[offset][position])] if has_target else None

    return {
        "domain": passage.domain,
        "document": passage.document,
        "position": passage.position,
        "tokens": [index[int(blocks.token_ids[position])] for position in passage.positions],
        "targets": {
            str(k): [target(k, position) for position in passage.positions] for k in targets.ids
        },
    }


def _reading(
    cell: Cell,
    by_position: Mapping[BlockPosition, TokenReading],
    passages: Sequence[Passage],
    index: Mapping[int, int],
) -> dict[str, Any]:
    grid = [[by_position.get(position) for position in passage.positions] for passage in passages]

    def shown(value: Callable[[TokenReading], Any]) -> list[list[Any]]:
        return [[None if reading is None else value(reading) for reading in row] for row in grid]

    return {
        "readout": cell.readout,
        "layer": cell.layer,
        "offset": cell.offset,
        "blind": cell.blind,
        "nats": shown(lambda reading: reading.nats),
        "rank": shown(lambda reading: reading.rank),
        "top": shown(lambda reading: [index[i] for i in reading.top]),
        "probs": shown(lambda reading: reading.probs),
    }

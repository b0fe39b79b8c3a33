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

MOST_TOKENS = 200
MOST_LAYERS = 9
FIRST = 5
# A passage is to be long enough to be read, and there is to be more than one of a domain.
USUAL_TOKENS = 50
SHORTEST_SHARE = 20


class Said(NamedTuple):
    """What a readout says at one position: loss and rank of the target, the first tokens."""

    nats: float
    rank: int
    top: list[int]
    probs: list[float]


Place = tuple[int, int]  # block and position
Run = tuple[Sequence[Readout], Iterable[Seen]]  # readouts, and the stream that they read


@dataclass(frozen=True)
class Passage:
    """Consecutive tokens of one document in one block.

    Attributes:
        domain: Domain of the document.
        document: Number of the document.
        block: Index of the block.
        position: Place of the first token in the block.
        length: Number of tokens.
    """

    domain: str
    document: int
    block: int
    position: int
    length: int

    @property
    def places(self) -> Iterator[Place]:
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


def choose(blocks: Blocks, domains: Sequence[str], horizon: int, seed: int) -> list[Passage]:
    """Choose passages of 200 tokens in all at most, shared equally among the domains.

    Those are drawn first in which every token has a target at each offset. Beyond ten domains
    the others are left out: a passage of fewer than twenty tokens tells a reader little.

    Args:
        blocks: Blocks of one split.
        domains: Domain of each document number.
        horizon: The largest offset.
        seed: Seed of the draw.

    Raises:
        DataError: If no document has two tokens in one block.
    """
    generator = torch.Generator().manual_seed(seed)
    by_domain: dict[str, list[Passage]] = {domain: [] for domain in domains}
    for stretch in _stretches(blocks, domains):
        by_domain[stretch.domain].append(stretch)
    known = [own for own in by_domain.values() if own][: MOST_TOKENS // SHORTEST_SHARE]
    if not known:
        raise DataError("no document has two tokens in one block: there is nothing to inspect")
    share = MOST_TOKENS // len(known)
    return [each for own in known for each in _drawn(own, share, horizon, generator)]


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
    runs: Iterable[Run],
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
    for block, position in (place for passage in passages for place in passage.places):
        inside[block, position] = True
    wanted = targets.at(inside)
    found: dict[Cell, dict[Place, Said]] = {}
    for readouts, stream in runs:
        for seen in stream:
            for cell, entries in _entries(readouts, seen, wanted):
                found.setdefault(cell, {}).update(entries)
    return _document(passages, found, blocks, wanted, tokenizer)


def _entries(
    readouts: Sequence[Readout], seen: Seen, wanted: Targets
) -> Iterator[tuple[Cell, dict[Place, Said]]]:
    """Yield for each cell what it says in one batch, by block and position."""
    for cell, logits, ids, mask in predictions(readouts, seen, wanted):
        places = [(seen.first_block + block, at) for block, at in mask.nonzero().tolist()]
        yield cell, dict(zip(places, _said(cell, logits, ids), strict=True))


def _said(cell: Cell, logits: Logits, targets: Targets1d) -> list[Said]:
    """Return loss, rank of the target, first tokens and their probabilities, by position."""
    logits, targets = logits.float(), targets.to(logits.device)
    nats = finite_losses(cell, logits, targets).nats
    rank = 1 + (logits > logits.gather(1, targets[:, None])).sum(dim=1)
    tokens = first(logits, min(FIRST, logits.shape[1]))
    probs = (logits.gather(1, tokens) - logits.logsumexp(dim=1, keepdim=True)).exp()
    columns = nats.tolist(), rank.tolist(), tokens.tolist(), probs.tolist()
    return [
        Said(round(loss, 4), place, top, [round(p, 4) for p in shares])
        for loss, place, top, shares in zip(*columns, strict=True)
    ]


def first(logits: Float[Tensor, "n vocab"], count: int) -> Int[Tensor, "n count"]:
    """Return the tokens of the largest logits in order, of equal ones the lower id first.

    >>> first(torch.tensor([[1.0, 3.0, 3.0, 0.0]]), 3)
    tensor([[1, 2, 0]])
    """
    # Taken ones become -inf, which no other is then. (torch.topk takes any of equal ones.)
    left, found = logits.clamp_min(torch.finfo(logits.dtype).min), []
    for _ in range(count):
        found.append(left.argmax(dim=1, keepdim=True))
        left.scatter_(1, found[-1], -torch.inf)
    return torch.cat(found, dim=1)


def _document(
    passages: Sequence[Passage],
    found: Mapping[Cell, Mapping[Place, Said]],
    blocks: Blocks,
    targets: Targets,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    used = {int(blocks.token_ids[place]) for each in passages for place in each.places}
    used |= {int(i) for k, ids in targets.ids.items() for i in ids[targets.valid[k]]}
    used |= {i for entries in found.values() for said in entries.values() for i in said.top}
    index = {token_id: place for place, token_id in enumerate(sorted(used))}
    return {
        "schema": PASSAGES,
        "target": targets.name,
        "layers": sorted({cell.layer for cell in found if cell.layer is not None}),
        "offsets": sorted(targets.ids),
        "vocabulary": spell(tokenizer, sorted(used)),
        "passages": [_passage(each, blocks, targets, index) for each in passages],
        "readings": [_reading(cell, entries, passages, index) for cell, entries in found.items()],
    }


def _passage(
    passage: Passage, blocks: Blocks, targets: Targets, index: Mapping[int, int]
) -> dict[str, Any]:
    def target(offset: int, place: Place) -> int | None:
        known = bool(targets.valid[offset][place])
        return index[int(targets.ids[offset][place])] if known else None

    return {
        "domain": passage.domain,
        "document": passage.document,
        "position": passage.position,
        "tokens": [index[int(blocks.token_ids[place])] for place in passage.places],
        "targets": {str(k): [target(k, place) for place in passage.places] for k in targets.ids},
    }


def _reading(
    cell: Cell,
    entries: Mapping[Place, Said],
    passages: Sequence[Passage],
    index: Mapping[int, int],
) -> dict[str, Any]:
    grid = [[entries.get(place) for place in each.places] for each in passages]

    def shown(value: Callable[[Said], Any]) -> list[list[Any]]:
        return [[None if said is None else value(said) for said in row] for row in grid]

    return {
        "readout": cell.readout,
        "layer": cell.layer,
        "offset": cell.offset,
        "blind": cell.blind,
        "nats": shown(lambda said: said.nats),
        "rank": shown(lambda said: said.rank),
        "top": shown(lambda said: [index[i] for i in said.top]),
        "probs": shown(lambda said: said.probs),
    }

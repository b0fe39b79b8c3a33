"""Online codelength: how many bits a text takes where a probe has to be learned on the way.

The targets are sent in portions. The first is sent without any probe, each later one by the
probe that was fitted to all before it. What is easy to learn from few positions is short:
unlike an accuracy, the number counts what it took to learn the probe. Two codes:

uniform   the paper's: the first portion with equal probabilities, log2(vocabulary) bits a
          target, all others by the probe, even where it knows too little yet
unigram   the first portion by an adaptive unigram, which knows how often each token came so
          far; each other one by that or by the probe, whichever is shorter, and one bit to
          say which. Where the probe finds nothing, this is as long as the unigram's code.

Source: Voita and Titov (2020), "Information-theoretic probing with minimum description
length", on the online code.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Int
from scipy.special import gammaln
from torch import Tensor

from probekit.data.targets import Targets
from probekit.errors import DataError
from probekit.readout import Readout, Seen
from probekit.scoring.losses import finite_losses
from probekit.scoring.score import KEY, predictions
from probekit.shapes import Mask

# Where portions end, in parts per million of the positions: 0.1 % … 100 %.
ENDS = (
    1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 62_500, 125_000, 250_000, 500_000, 1_000_000,
)  # fmt: skip
MILLION = 1_000_000

# Portions that would leave the first probe fewer positions than this are sent with the first
# one: of fewer there is no covariance to speak of.
FEWEST = 16

COLUMNS = [
    *KEY, "n", "n_start", "uniform_bits", "unigram_bits", "online_uniform_bits",
    "online_unigram_bits", "bits_per_target", "compression", "compression_to_unigram",
]  # fmt: skip

Order = Int[Tensor, " block"]


@dataclass(frozen=True)
class Within:
    """The batches of a stream in which targets have a position; re-iterable if the stream is.

    Attributes:
        stream: Batches of the blocks that the targets are of.
        targets: Targets of all blocks.
    """

    stream: Iterable[Seen]
    targets: Targets

    def __iter__(self) -> Iterator[Seen]:
        """Yield batches in their order, and end with the last one that has a target."""
        masks = torch.stack(list(self.targets.valid.values()))
        with_target = masks.any(dim=2).any(dim=0)
        for seen in self.stream:
            if with_target[seen.blocks].any():
                yield seen
            if not with_target[seen.blocks.stop :].any():
                return


def online(
    fit: Callable[[Targets], Readout],
    stream: Iterable[Seen],
    targets: Targets,
    vocab_size: int,
    order: Order | None = None,
) -> pd.DataFrame:
    """Return the online codelength of the targets, in bits, for each cell of a readout.

    Args:
        fit: Returns a readout fitted to given targets: ever more of `targets`. Its stream can
            be shortened to `Within` these. What else it looks at, such as validation, counts
            as known to both sides.
        stream: Tokens and residual streams, re-iterable; holds the readout's layers.
        targets: What is sent: positions in the order of blocks, and in a block from left to
            right. Offsets are sent one by one, each in portions of its own positions.
        vocab_size: Rows of the unembedding.
        order: Blocks in the order in which they are sent, shape (block,); as they are, by
            default. A code is short where what was sent is like what comes, so that texts of
            different kinds want to be mixed.

    Returns:
        One row for each cell: readout, layer, offset, blind; n, targets sent, and n_start,
        those sent without a probe; uniform_bits and unigram_bits, the length of all without
        any probe; online_uniform_bits and online_unigram_bits, the two codes; bits_per_target,
        online_unigram_bits / n; compression, uniform_bits / online_uniform_bits as in the
        paper; compression_to_unigram, unigram_bits / online_unigram_bits.

    Raises:
        DataError: If an offset has too few positions, or the cells of a readout change.
        NumericalError: If a readout loses infinitely much or yields NaN.
    """
    parts = portions(targets, order)
    before, rows = parts[0], []
    for number, portion in enumerate(parts[1:], start=1):
        sent = _sent(fit(before), Within(stream, portion), portion)
        rows += [(*row, number) for row in sent]
        before = _both(before, portion)
    table = pd.DataFrame(rows, columns=[*KEY, "n_probe", "nats", "portion"])
    table = table.astype({"layer": "Int64"})
    keys = [*KEY, "portion"]
    table = table.groupby(keys, dropna=False, sort=False, as_index=False).sum()
    plain = pd.concat([_without_probe(parts, k, vocab_size) for k in targets.valid])
    return _lengths(table.merge(plain, on=["offset", "portion"]), plain, len(parts) - 1)


def portions(targets: Targets, order: Order | None = None) -> list[Targets]:
    """Cut targets into the portions that are sent one after another.

    They end at 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.25, 12.5, 25, 50 and 100 % of the positions of
    each offset, rounded down. Where these are few, the first portions are sent as one.

    Args:
        targets: Targets of all positions.
        order: Blocks in the order in which they are sent, shape (block,).

    Returns:
        At least two portions, each with a position at every offset; no position is in two of
        them, none is left out.

    Raises:
        DataError: If an offset has too few positions, or the order does not hold each block once.
    """
    blocks = torch.arange(len(next(iter(targets.valid.values()))))
    order = blocks if order is None else order
    if not torch.equal(order.sort().values, blocks):
        raise DataError(f"the order must hold each of {len(blocks)} blocks once, got {order}")
    least, offset = min((int(mask.sum()), k) for k, mask in targets.valid.items())
    ends = [end for end in ENDS if least * end // MILLION >= FEWEST]
    if len(ends) < 2:
        raise DataError(
            f"an online code needs at least {2 * FEWEST} positions at each offset, got {least} at "
            f"offset {offset}: take more text"
        )
    ranks = {k: _ranks(mask, order) for k, mask in targets.valid.items()}
    parts = []
    for start, end in zip([0, *ends], ends, strict=False):
        masks = {}
        for k, mask in targets.valid.items():
            low, high = (int(mask.sum()) * bound // MILLION for bound in (start, end))
            masks[k] = mask & (ranks[k] > low) & (ranks[k] <= high)
        parts.append(Targets(targets.name, targets.ids, masks))
    return parts


def unigram_bits(counts: Int[Tensor, " vocab"]) -> float:
    """Return the length of an adaptive unigram code, in bits.

    Each token is sent with probability (its count so far + 1/V) / (all so far + 1): one
    pseudo-count in all, spread over the vocabulary. The order of the tokens does not matter, so
    that their counts tell the length.

    Args:
        counts: How often each token is sent, shape (vocab,).

    Source: the Dirichlet-multinomial distribution with V parameters of 1/V, whose sequential
    form is the rule of Krichevsky and Trofimov (1981) with 1/V for 1/2.

    >>> unigram_bits(torch.tensor([2, 0]))  # -log2(1/2 * 3/4)
    1.415...
    """
    prior = 1 / len(counts)
    seen = counts[counts > 0].double().cpu().numpy()
    nats = gammaln(1 + seen.sum()) - (gammaln(seen + prior) - gammaln(prior)).sum()
    return float(nats) / math.log(2)


def _ranks(mask: Mask, order: Order) -> Int[Tensor, "block pos"]:
    """Return which of the valid positions each is, from 1, in the order in which they go."""
    ranks = torch.zeros(mask.shape, dtype=torch.long)
    ranks[order] = mask[order].flatten().cumsum(dim=0).view(mask.shape)
    return ranks


def _both(one: Targets, other: Targets) -> Targets:
    masks = {k: mask | other.valid[k] for k, mask in one.valid.items()}
    return Targets(one.name, one.ids, masks)


@torch.no_grad()
def _sent(
    readout: Readout, stream: Iterable[Seen], targets: Targets
) -> Iterator[tuple[object, ...]]:
    """Yield what the targets of each batch cost in each cell, in nats."""
    for seen in stream:
        for cell, logits, ids, _ in predictions([readout], seen, targets):
            nats = finite_losses(cell, logits, ids).nats.double().sum()
            yield cell.readout, cell.layer, cell.offset, cell.blind, len(logits), float(nats)


def _without_probe(parts: Sequence[Targets], offset: int, vocab_size: int) -> pd.DataFrame:
    """Return how many targets each portion has, and their length in bits without a probe."""
    counts = torch.zeros(vocab_size, dtype=torch.long)
    rows, before = [], 0.0
    for number, part in enumerate(parts):
        ids = part.ids[offset][part.valid[offset]]
        counts += ids.bincount(minlength=vocab_size)
        so_far = unigram_bits(counts)
        rows.append((offset, number, len(ids), len(ids) * math.log2(vocab_size), so_far - before))
        before = so_far
    return pd.DataFrame(rows, columns=["offset", "portion", "n", "uniform_bits", "unigram_bits"])


def _lengths(sent: pd.DataFrame, plain: pd.DataFrame, n_portions: int) -> pd.DataFrame:
    """Return the length of each cell, from that of its portions with and without a probe."""
    cells = sent.groupby([*KEY], dropna=False, sort=False)
    if sent.empty or (sent["n"] != sent["n_probe"]).any() or (cells.size() != n_portions).any():
        raise DataError(
            "the readouts fitted to the portions must all have the same cells, one at least, "
            "and predict every valid position"
        )
    sent["probe_bits"] = sent["nats"] / math.log(2)
    sent["shorter_bits"] = sent[["probe_bits", "unigram_bits"]].min(axis=1) + 1
    lengths = cells[["probe_bits", "shorter_bits"]].sum().reset_index()
    whole = plain.groupby("offset")[["n", "uniform_bits", "unigram_bits"]].sum()
    first = plain[plain["portion"] == 0].set_index("offset").add_suffix("_start")
    lengths = lengths.join(whole, on="offset").join(first, on="offset")
    lengths["online_uniform_bits"] = lengths["uniform_bits_start"] + lengths["probe_bits"]
    lengths["online_unigram_bits"] = lengths["unigram_bits_start"] + lengths["shorter_bits"]
    lengths["bits_per_target"] = lengths["online_unigram_bits"] / lengths["n"]
    lengths["compression"] = lengths["uniform_bits"] / lengths["online_uniform_bits"]
    lengths["compression_to_unigram"] = lengths["unigram_bits"] / lengths["online_unigram_bits"]
    return lengths[COLUMNS]

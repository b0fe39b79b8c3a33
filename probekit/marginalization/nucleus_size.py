"""The size of the next-token nucleus: the branches that marginalizing the next token takes.

At each position, how many tokens hold a share of the model's next-token probability, and the
entropy of that distribution. Nothing is capped: this is the cost, whatever a run can pay.

Source: Mehra, Alonso Garcia and Mauch (2025), figure 4 (mean number of tokens that hold 0.99,
by model size and domain) and figure 3 (entropy by position).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probekit.data.blocks import Blocks
from probekit.errors import SettingsError
from probekit.models.anatomy import Anatomy
from probekit.readout import Seen
from probekit.scoring.intervals import document_bootstrap, effective_documents, interval
from probekit.scoring.losses import chunk_length
from probekit.scoring.rates import ALL, FEWEST_FOR_INTERVAL, RESAMPLES, Rate
from probekit.shapes import Targets1d

BUCKETS = 8
# Sorting keeps places and sums of eight bytes beside probabilities of four.
SORT_COPIES = 4


def nucleus_sizes(probs: Float[Tensor, "n vocab"], nucleus: float) -> Targets1d:
    """Return how many of the most probable tokens hold a share of the probability.

    The token that crosses the share counts; of tied tokens any may be the one. A share of 1 is
    all tokens of positive probability.

    Args:
        probs: Probabilities, shape (n, vocab); each row sums to 1.
        nucleus: The share, in (0, 1].

    Returns:
        Numbers of tokens, shape (n,).

    Raises:
        SettingsError: If the share is not in (0, 1].

    >>> nucleus_sizes(torch.tensor([[0.125, 0.5, 0.125, 0.25]]), 0.6)
    tensor([2])
    """
    if not 0 < nucleus <= 1:
        raise SettingsError(f"nucleus must be in (0, 1], got {nucleus}")
    if nucleus == 1:
        return (probs > 0).sum(dim=1)
    values = _descending(probs)
    before = values.cumsum(dim=1, dtype=torch.float64).sub_(values)
    return (before < nucleus).logical_and_(values > 0).sum(dim=1)


def _descending(probs: Float[Tensor, "n vocab"]) -> Float[Tensor, "n vocab"]:
    """Return each row sorted; torch, which keeps places too, takes longer on a CPU."""
    if probs.device.type != "cpu":
        return probs.sort(dim=1, descending=True).values
    return torch.from_numpy(-np.sort(-probs.numpy(), axis=1))


@torch.no_grad()
def count(stream: Iterable[Seen], anatomy: Anatomy, blocks: Blocks, nucleus: float) -> pd.DataFrame:
    """Count the tokens in the nucleus and take the entropy, position by position.

    Args:
        stream: Holds the last layer of the residual stream, from which the model predicts.
        anatomy: How the model decodes it.
        blocks: The same blocks; positions with a next token in their own document count.
        nucleus: Share of the next token's probability, in (0, 1].

    Returns:
        Rows of block, document, position (in the block), tokens and nats (the entropy).

    Raises:
        SettingsError: If the share is not in (0, 1].
    """
    length = max(1, chunk_length(anatomy.vocab_size, anatomy.unembedding.device) // SORT_COPIES)
    valid, tables = blocks.valid(1), []
    for seen in stream:
        inside = valid[seen.blocks]
        resid = seen.resid[anatomy.n_layers][inside.to(seen.token_ids.device)]
        parts = [_spread(anatomy, rows, nucleus) for rows in resid.split(length)]
        columns = {
            "block": inside.nonzero()[:, 0] + seen.first_block,
            "document": blocks.documents[seen.blocks][inside],
            "position": inside.nonzero()[:, 1],
            "tokens": torch.cat([tokens for tokens, _ in parts]),
            "nats": torch.cat([nats for _, nats in parts]),
        }
        tables.append(pd.DataFrame({name: x.cpu().numpy() for name, x in columns.items()}))
    return pd.concat(tables, ignore_index=True)


def _spread(
    anatomy: Anatomy, resid: Float[Tensor, "n model"], nucleus: float
) -> tuple[Targets1d, Float[Tensor, " n"]]:
    probs = anatomy.decode(resid).float().softmax(dim=1)
    return nucleus_sizes(probs, nucleus), torch.special.entr(probs).sum(dim=1).double()


@dataclass(frozen=True)
class Spread:
    """How widely the next token is spread at some positions of a domain's blocks.

    Attributes:
        domain: Name of the domain, or `all`.
        first: First of the positions in a block.
        last: Last of them.
        n_positions: Positions counted, of all blocks.
        n_documents: Documents that have such positions.
        effective_documents: Documents of equal size that tell as much.
        tokens: Mean number of tokens in the nucleus: the estimate, then each resample's.
        nats: Mean entropy, the same way.
        tokens_median: Median number of tokens over positions.
    """

    domain: str
    first: int
    last: int
    n_positions: int
    n_documents: int
    effective_documents: float
    tokens: Rate
    nats: Rate
    tokens_median: float

    def summary(self, rate: Rate) -> tuple[float, float | None, float | None]:
        """Return the estimate and the ends of the 95 % interval of what was made of rates here.

        There is no interval, but None, where documents are too few.
        """
        if self.n_documents < FEWEST_FOR_INTERVAL:
            return float(rate[0]), None, None
        return float(rate[0]), *interval(rate[1:], self.effective_documents)

    def row(self, nucleus: float) -> dict[str, Any]:
        """Return the row of `branching` in results.json."""
        row = {
            "domain": self.domain,
            "positions_from": self.first,
            "positions_to": self.last,
            "nucleus": nucleus,
            "n_positions": self.n_positions,
            "n_documents": self.n_documents,
            "tokens_median": self.tokens_median,
        }
        for name, rate in (("tokens_mean", self.tokens), ("entropy_nats", self.nats)):
            row[name], row[f"{name}_low"], row[f"{name}_high"] = self.summary(rate)
        return row


def spans(block: int) -> list[tuple[int, int]]:
    """Return first and last position of the whole block, then of its equal parts.

    >>> spans(16)[:3]
    [(0, 15), (0, 1), (2, 3)]
    """
    edges = sorted({block * part // BUCKETS for part in range(BUCKETS + 1)})
    return [(0, block - 1), *((start, end - 1) for start, end in pairwise(edges))]


def spreads(table: pd.DataFrame, domains: Sequence[str], block: int, seed: int) -> Iterator[Spread]:
    """Yield means over positions by domain (`all` first, where there are several) and span.

    Intervals are from the same resamples of documents as those of scores, so differences of
    models on the same text are paired. A span in which no position was counted is left out.

    Args:
        table: What `count` returned.
        domains: Domain of each document number.
        block: Tokens in a block.
        seed: Seed of the resampling.
    """
    names = list(dict.fromkeys(domains))
    owners = np.array(domains, dtype=object)[table["document"]]
    for domain in [ALL, *names] if len(names) > 1 else names:
        whole = domain == ALL and len(names) > 1
        rows = table[np.full(len(table), fill_value=True) if whole else owners == domain]
        numbers, slots = np.unique(rows["document"], return_inverse=True)
        weights = document_bootstrap(len(numbers), RESAMPLES, seed)
        weights = np.vstack([np.ones(len(numbers)), weights])
        for first, last in spans(block):
            inside = rows["position"].between(first, last).to_numpy()
            if inside.any():
                yield _spread_of(domain, (first, last), rows[inside], slots[inside], weights)


def _spread_of(
    domain: str,
    span: tuple[int, int],
    table: pd.DataFrame,
    slots: NDArray[np.intp],
    weights: Rate,
) -> Spread:
    """Return the means of one span; `slots` is the place of each row's document in `weights`."""
    n, tokens, nats = (
        np.bincount(slots, values, minlength=weights.shape[1]).astype(np.float64)
        for values in (np.ones(len(table)), table["tokens"], table["nats"])
    )
    with np.errstate(invalid="ignore"):  # a resample without data is NaN, and left out
        means = weights @ np.stack([tokens, nats], axis=1) / (weights @ n)[:, None]
    return Spread(
        domain,
        *span,
        n_positions=len(table),
        n_documents=int((n > 0).sum()),
        effective_documents=float(effective_documents(n[:, None])[0]),
        tokens=means[:, 0],
        nats=means[:, 1],
        tokens_median=float(table["tokens"].median()),
    )

"""Tables of a study of heads: rates, paired differences and gap shares, with intervals."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from probekit.pipelines.head_study.score_strategies import BASE
from probekit.pipelines.head_study.settings import BASELINE, FROZEN
from probekit.readout import LINEAR, UNIGRAM
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import DocumentSums, Rate, Rates

SETS = ("all", "marginal")
METRICS = ("nats", "top1", "top5")
GAP_METRICS = ("top5", "nats")

NO_HEAD = "it has no head at this offset"


def domain_rates(sums: DocumentSums) -> Iterator[tuple[str, str, Rates]]:
    """Yield the rates of each domain and set of positions."""
    for domain in sums.groups:
        for positions in SETS:
            yield domain, positions, sums.rates(domain, "test", positions)


def strategies_of(rates: Rates) -> list[str]:
    """Return what was scored, in order, without the unigram."""
    return [name for name in dict.fromkeys(key[0] for key in rates.cells) if name != UNIGRAM]


def score_rows(sums: DocumentSums) -> list[dict[str, Any]]:
    """Return one row a domain, set of positions, strategy and offset.

    Args:
        sums: The scores.

    Returns:
        Rows with nats, bits over the unigram, top-1 and top-5, each with its interval.
    """
    rows = []
    for domain, positions, rates in domain_rates(sums):
        for index, ((name, _, offset), blind) in enumerate(rates.cells.items()):
            if name == UNIGRAM:
                continue
            nats = rates.nats(name, None, offset)
            bits = v_information_bits(rates.nats(UNIGRAM, None, offset), nats)
            row: dict[str, Any] = {
                "domain": domain,
                "positions": positions,
                "strategy": name,
                "offset": offset,
                "blind": bool(blind),
                "n_positions": int(rates.n_positions[index]),
                "n_documents": int(rates.n_documents[index]),
            }
            row |= rates.columns("nats", nats) | rates.columns("bits", bits)
            for metric in ("top1", "top5"):
                row |= rates.columns(metric, rates.rate(metric, name, None, offset))
            rows.append(row)
    return rows


def difference_rows(sums: DocumentSums, own: Sequence[str]) -> list[dict[str, Any]]:
    """Return paired differences of each strategy to the references, on the same positions.

    Args:
        sums: The scores.
        own: References beside the finetuned and the untouched model, the linear probe and
            heads-only, such as heads that came with the model.

    Returns:
        A row a domain, set of positions, strategy, reference and offset: strategy minus
        reference.
    """
    rows = []
    for domain, positions, rates in domain_rates(sums):
        names = strategies_of(rates)
        references = [name for name in (BASELINE, LINEAR, FROZEN, BASE, *own) if name in names]
        for name, _, offset in rates.cells:
            for against in references:
                if name in (against, UNIGRAM) or not rates.has(against, None, offset):
                    continue
                row: dict[str, Any] = {
                    "domain": domain, "positions": positions, "strategy": name,
                    "against": against, "offset": offset,
                }  # fmt: skip
                for metric in METRICS:
                    row |= rates.columns(metric, apart(rates, metric, name, against, offset))
                rows.append(row)
    return rows


def apart(rates: Rates, metric: str, name: str, against: str, offset: int) -> Rate:
    """Return a paired difference: strategy minus reference."""
    apart: Rate = rates.rate(metric, name, None, offset) - rates.rate(metric, against, None, offset)
    return apart


def with_interval(summary: tuple[float, float, float], scale: float = 1.0, digits: int = 3) -> str:
    """Return an estimate and its interval, if it has one, as text.

    >>> with_interval((0.25, 0.2, 0.315), scale=100.0, digits=1)
    '25.0 [20.0, 31.5]'
    """
    # Without the sign of a negative zero.
    value, low, high = (f"{round(scale * x, digits) + 0.0:.{digits}f}" for x in summary)
    return value if math.isnan(summary[1]) else f"{value} [{low}, {high}]"


def gap_rows(sums: DocumentSums, trained: Sequence[str]) -> list[dict[str, Any]]:
    """Return which share of the gap from the linear probe to the baseline each strategy closes.

    Args:
        sums: The scores.
        trained: Strategies that train heads.

    Returns:
        A row a domain, strategy, offset from 2 on and metric, on the marginalized positions;
        share null, with a reason, where the gap is not clear of zero.
    """
    rows = []
    for domain in sums.groups:
        rates = sums.rates(domain, "test", "marginal")
        offsets = sorted({offset for _, _, offset in rates.cells if offset > 1})
        for name in trained:
            for offset in offsets:
                for metric in GAP_METRICS:
                    row = {"domain": domain, "strategy": name, "offset": offset, "metric": metric}
                    rows.append(row | _share(rates, metric, name, offset))
    return rows


def _share(rates: Rates, metric: str, name: str, offset: int) -> dict[str, Any]:
    if not rates.has(name, None, offset):
        return {**rates.columns("share", None), "reason": NO_HEAD}
    # Nats fall where the others rise.
    sign = -1.0 if metric == "nats" else 1.0
    gap = sign * apart(rates, metric, BASELINE, LINEAR, offset)
    summary = rates.summary(gap)
    if not summary[1] > 0:
        reason = f"the baseline is not clear of the linear probe: {with_interval(summary)}"
        return {**rates.columns("share", None), "reason": reason}
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample may have no gap
        share: Rate = sign * apart(rates, metric, name, LINEAR, offset) / gap
    return {**rates.columns("share", share), "reason": None}

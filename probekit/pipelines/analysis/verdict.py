"""From specialization to sentences, a table of offsets, and warnings."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from probekit.pipelines.analysis.by_offset import by_offset
from probekit.pipelines.analysis.sentences import (
    behind_counting,
    bits,
    drafted,
    late_loss,
    looks,
    say,
)
from probekit.scoring.few_documents import few_documents
from probekit.scoring.rates import MUCH_ADAPTATION_NATS, DocumentSums, Rate
from probekit.scoring.specialization import DomainRates, specialization_row


@dataclass(frozen=True)
class Beside:
    """What is known beside the scores, by offset.

    Attributes:
        ceiling_errors: Standard error in nats that sampling leaves the ceiling over all domains;
            where it is large, the ceiling is called an estimate.
        more_text: What more text would do to what is read there, in words.
    """

    ceiling_errors: Mapping[int, float] = field(default_factory=dict)
    more_text: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """What the scores say.

    Attributes:
        rows: `specialization` of results.json, one row a domain and offset.
        verdict: Sentences.
        offsets: What was found at each offset, in cells.
        shares: By domain, layer and offset, the columns `share` of what the model knows.
        warnings: Code and message of what a reader must know.
        horizon: `horizon` of results.json, where offsets go beyond those marginalized.
    """

    rows: list[dict[str, Any]]
    verdict: list[str]
    offsets: list[dict[str, Any]]
    shares: Mapping[tuple[str, int, int], dict[str, float | None]]
    warnings: list[dict[str, str]]
    horizon: list[dict[str, Any]]


def findings(
    sums: DocumentSums,
    n_layers: int,
    horizon: int,
    beside: Beside | None = None,
    at_output: bool = True,
    target: str = "text",
) -> Findings:
    """Return the findings of a run.

    Args:
        sums: What was scored on `validation` (positions `all`) and on `test` (positions
            `all` and `marginal`).
        n_layers: Number of blocks of the model.
        horizon: Largest offset.
        beside: What is known beside the scores.
        at_output: Whether probes read what the output layer reads. Elsewhere the (L, 1) probe
            says nothing of adaptation.
        target: What readouts are scored against.
    """
    domains = [DomainRates.of(sums, name, n_layers, at_output, target) for name in sums.groups]
    offsets = range(1, horizon + 1)
    rows = [_row(domain, offset) for domain in domains for offset in offsets]
    first, beside = domains[0], beside or Beside()
    if first.test.shortage:
        verdict = [f"Cannot tell: {first.test.shortage}."]
    else:
        verdict = say(first, horizon, beside.more_text)
        if target == "model" and horizon > 1:
            # What an engineer asks of such a run stands in the first screen, with the answer.
            verdict[0] += f" {drafted(first, horizon)}"
        verdict += [looks(horizon, len(domains))] if horizon > 1 else []
    warnings = list(_warnings(domains, horizon))
    table = list(by_offset(first, rows[:horizon], beside.ceiling_errors))
    beyond = list(_horizons(domains, horizon))
    return Findings(rows, verdict, table, _shares(domains, horizon), warnings, beyond)


def _horizons(domains: list[DomainRates], farthest: int) -> Iterator[dict[str, Any]]:
    """Yield what is read at each offset from 2 on, where the last has no ceiling."""
    for domain in domains if farthest > 1 else ():
        if domain.test.shortage or domain.ceiling(farthest) is not None:
            continue
        reached = domain.reach(farthest)
        for offset in range(2, farthest + 1):
            read = domain.test.columns("read_bits", domain.read_bits(offset))
            place = {"domain": domain.name, "offset": offset, "layer": domain.best_layer(offset)}
            yield place | read | {"within": offset <= reached}


def _shares(
    domains: list[DomainRates], horizon: int
) -> dict[tuple[str, int, int], dict[str, float | None]]:
    """Return what each layer's probe reads of what the model knows."""
    return {
        (domain.name, layer, offset): domain.drawn(offset).columns("share", share)
        for domain in domains
        for offset in range(1, horizon + 1)
        for layer, share in domain.shares(offset).items()
    }


def _row(domain: DomainRates, offset: int) -> dict[str, Any]:
    row = specialization_row(domain, offset)
    if domain.test.shortage:
        return row | {"verdict": f"cannot tell: {domain.test.shortage}"}
    return row | {"verdict": "no layer reads it" if domain.unread(offset) else late_loss(row)}


def _warnings(domains: list[DomainRates], horizon: int) -> Iterator[dict[str, str]]:
    for domain in domains:
        yield from few_documents(domain.name, domain.test)
        if domain is not domains[0] and not domain.test.shortage:
            for sentence in behind_counting(domain, horizon):
                yield {"code": "behind-counting", "message": f"{domain.name}: {sentence}"}
        gain = domain.adaptation_nats()
        if gain is not None and gain[0] > MUCH_ADAPTATION_NATS:
            yield {"code": "adaptation", "message": f"{domain.name}: {_gained(domain, gain)}"}


def _gained(domain: DomainRates, gain: Rate) -> str:
    beaten = (
        "the linear probe at the last layer beats the model at the next token by "
        f"{bits(domain.test.summary(gain / math.log(2)))}"
    )
    if domain.target == "model":
        return (
            f"{beaten}: the model's own most probable token is always right here, and the model, "
            "which was trained on text, is less sure. Compare accuracies rather than bits."
        )
    return (
        f"{beaten}: it adapts to this text, as the model itself does not. A share of what the "
        "model itself knows would be too high; one of what it knows with its output adapted is not."
    )

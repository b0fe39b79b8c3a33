"""From specialization to sentences, headline numbers and warnings."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from probekit.readout import LINEAR, SKIP_BIGRAM
from probekit.scoring.rates import (
    MUCH_ADAPTATION_NATS,
    ROUGH_NATS,
    DocumentSums,
    Rate,
    few_documents,
)
from probekit.scoring.specialization import DomainRates, specialization_row

# What a floor that sees the current token alone is called.
FLOORS = {SKIP_BIGRAM: "a skip-bigram", LINEAR: "the probe at layer 0"}


@dataclass(frozen=True)
class Findings:
    """What the scores say.

    Attributes:
        rows: `specialization` of results.json, one row a domain and offset.
        verdict: Sentences.
        headlines: The headline numbers.
        warnings: Code and message of what a reader must know.
    """

    rows: list[dict[str, Any]]
    verdict: list[str]
    headlines: list[dict[str, Any]]
    warnings: list[dict[str, str]]


def findings(
    sums: DocumentSums,
    n_layers: int,
    horizon: int,
    ceiling_errors: Mapping[int, float] | None = None,
    at_output: bool = True,
    target: str = "text",
) -> Findings:
    """Return the findings of a run.

    Args:
        sums: What was scored on `validation` (positions `all`) and on `test` (positions
            `all` and `marginal`).
        n_layers: Number of blocks of the model.
        horizon: Largest offset.
        ceiling_errors: By offset, the standard error in nats that sampling leaves the ceiling
            over all domains; where it is large, the ceiling is called an estimate.
        at_output: Whether probes read what the output layer reads. Elsewhere the (L, 1) probe
            says nothing of adaptation.
        target: What readouts are scored against.
    """
    ceiling_errors = ceiling_errors or {}
    domains = [DomainRates.of(sums, name, n_layers, at_output, target) for name in sums.groups]
    offsets = range(1, horizon + 1)
    rows = [_row(domain, offset) for domain in domains for offset in offsets]
    first = domains[0]
    ahead = [k for k in offsets if k > 1]
    verdict = [_next_token_sentence(first)]
    verdict += [_sentence(rows[k - 1], first, ceiling_errors.get(k, 0.0)) for k in ahead]
    if first.test.shortage:
        verdict = [f"Cannot tell: {first.test.shortage}."]
    return Findings(rows, verdict, list(_headlines(first, horizon)), list(_warnings(domains)))


def _row(domain: DomainRates, offset: int) -> dict[str, Any]:
    row = specialization_row(domain, offset)
    shortage = domain.test.shortage
    return row | {"verdict": f"cannot tell: {shortage}" if shortage else _verdict(row)}


def _verdict(row: dict[str, Any]) -> str:
    """Say in words whether the last layer has forgotten what the best layer knew."""
    low, high = row["forgotten_bits_low"], row["forgotten_bits_high"]
    if row["forgotten_bits"] == low == high == 0:
        return "the last layer is the best: nothing is forgotten"
    if low > 0:
        return f"layer {row['best_layer']} knows more than the last: later layers forget"
    if high < 0:
        return "the last layer reads better on test than the layer that validation preferred"
    return "cannot tell whether later layers forget: the interval spans zero"


def _next_token_sentence(domain: DomainRates) -> str:
    layer = domain.saturation_layer()
    if layer is None:
        return "No layer's logit lens reaches 95 % of the model's next-token accuracy."
    return (
        f"The next token is settled at layer {layer} of {domain.n_layers}: from there on the "
        f"logit lens has at least 95 % of the model's top-1 accuracy."
    )


def _sentence(row: dict[str, Any], domain: DomainRates, ceiling_error: float) -> str:
    offset, best = row["offset"], row["best_layer"]
    start = f"The token at t+{offset} is read out best at layer {best} of {domain.n_layers}"
    if row["recovered"] is None:
        share = "how that compares with what the model itself knows cannot be told here"
    else:
        share = (
            f"a linear probe there reads {row['read_bits']:.2f} of the {row['room_bits']:.2f} bits "
            f"that the model itself knows beyond {FLOORS[row['floor']]}: "
            f"{_percent(row['recovered'])} "
            f"[{_percent(row['recovered_low'])}, {_percent(row['recovered_high'])}]"
        )
        if row["recovered_adapted"] is not None:
            share += f" ({_percent(row['recovered_adapted'])} with its output adapted to this text)"
        if ceiling_error > ROUGH_NATS:
            share += f" (an estimate: the ceiling is known to ± {ceiling_error:.2f} nats only)"
    return f"{start}; {share}; {row['verdict']}."


def _percent(share: float) -> str:
    """Return a share as whole per cent, without the sign of a negative zero."""
    return f"{round(100 * share)} %"


def _headlines(domain: DomainRates, horizon: int) -> Iterator[dict[str, Any]]:
    if domain.test.has("model", None, 1):
        accuracy = domain.test.summary(domain.test.rate("top1", "model", None, 1))
        yield _headline("Next token, the model", accuracy, "top-1", "test positions")
    if horizon < 2:
        return
    best, at = domain.best_layer(2), domain.marginal
    probe = at.summary(at.rate("top1", LINEAR, best, 2))
    yield _headline(f"t+2, best probe (layer {best})", probe, "top-1", "marginal positions")
    if at.has("marginal", None, 2):
        ceiling = at.summary(at.rate("top1", "marginal", None, 2))
        yield _headline("t+2, marginalization", ceiling, "top-1", "marginal positions")
    floor, _ = domain.floor(2)
    recovered = domain.recovered(2)
    note = f"of what the model knows of t+2 beyond {FLOORS[floor]}"
    adapted = domain.recovered(2, "marginal-adapted")
    if adapted is not None:
        yield _headline(
            "Recovered at t+2", at.summary(adapted), "share", f"{note}, its output adapted"
        )
    elif recovered is not None:
        yield _headline("Recovered at t+2", at.summary(recovered), "share", note)
    note = f"cross-entropy at the last layer minus at layer {best}"
    forgotten = domain.test.summary(domain.forgotten_bits(2))
    yield _headline("Forgotten at t+2", forgotten, "bits", note)


def _headline(
    label: str, interval: tuple[float, float, float], unit: str, note: str
) -> dict[str, Any]:
    value, low, high = (None if math.isnan(number) else number for number in interval)
    return {"label": label, "value": value, "low": low, "high": high, "unit": unit, "note": note}


def _warnings(domains: list[DomainRates]) -> Iterator[dict[str, str]]:
    for domain in domains:
        yield from few_documents(domain.name, domain.test)
        gain = domain.adaptation_nats()
        if gain is not None and gain[0] > MUCH_ADAPTATION_NATS:
            yield {"code": "adaptation", "message": f"{domain.name}: {_gained(domain, gain)}"}


def _gained(domain: DomainRates, gain: Rate) -> str:
    beaten = f"the (L, 1) probe beats the model by {gain[0]:.3f} nats"
    if domain.target == "model":
        return (
            f"{beaten}: the model's own most probable token is always right here, and the model, "
            "which was trained on text, is less sure. Compare accuracies rather than nats."
        )
    return (
        f"{beaten} by adapting to this text, which the ceiling does not. Recovered is too high; "
        "see it against the adapted ceiling, where there is one."
    )

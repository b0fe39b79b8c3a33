"""The content of results.json, put together from what was measured."""

import datetime
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from probekit import provenance
from probekit.checks import Check
from probekit.measurement import Measurement
from probekit.results import SCHEMA
from probekit.specialization import Findings

# Where every readout is scored: split and set of positions.
SCORED = (("test", "all"), ("test", "marginal"), ("validation", "all"))


def document(
    measured: Measurement,
    findings: Findings,
    checks: Sequence[Check],
    unmet: Sequence[dict[str, str]],
) -> dict[str, Any]:
    """Return the content of results.json.

    Args:
        measured: The measurements.
        findings: What follows from them.
        checks: Checks of the model.
        unmet: Warnings of those that failed.
    """
    ceilings = measured.ceilings
    engine_checks = [check for ceiling in ceilings for check in ceiling.checks]
    return {
        "schema": SCHEMA,
        "run": _run(measured),
        "model": _model(measured),
        "text": measured.material.text,
        "verdict": findings.verdict,
        "headlines": findings.headlines,
        "scores": list(_scores(measured)),
        "marginal": [row for ceiling in ceilings for row in ceiling.rows],
        "specialization": findings.rows,
        "checks": [asdict(check) for check in [*checks, *engine_checks]],
        "warnings": [*unmet, *measured.material.warnings, *findings.warnings],
    }


def _run(measured: Measurement) -> dict[str, Any]:
    loaded, seconds = measured.material.loaded, measured.journal.seconds
    return {
        "id": uuid.uuid4().hex,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": provenance.command(),
        "seconds": sum(seconds.values()),
        "stage_seconds": dict(seconds),
        "seed": measured.settings.seed,
        "device": provenance.machine(loaded.model.device),
        "dtype": loaded.dtype,
        "attention": loaded.attention,
        "versions": provenance.versions(),
        "settings": dict(_settings(measured)),
    }


def _settings(measured: Measurement) -> Iterator[tuple[str, Any]]:
    """Yield what was set, as JSON has it, so that a report is the same from memory and file."""
    for name, value in asdict(measured.settings).items():
        if value is not None:
            yield name, list(value) if isinstance(value, tuple) else value


def _model(measured: Measurement) -> dict[str, Any]:
    material = measured.material
    loaded, head = material.loaded, material.head
    return {
        "name": loaded.name,
        "repository": loaded.repository,
        "revision": loaded.revision,
        "architecture": type(loaded.model).__name__,
        "n_layers": head.n_layers,
        "d_model": head.d_model,
        "vocab_size": head.vocab_size,
        "n_parameters": loaded.n_parameters,
        "softcap": head.softcap,
        "fingerprint": material.fingerprint,
    }


def _scores(measured: Measurement) -> Iterator[dict[str, Any]]:
    settings = measured.settings
    for domain in measured.tally.groups:
        for split, positions in SCORED:
            rates = measured.tally.rates(domain, split, positions)
            for row in rates.rows():
                at = row["readout"], row["layer"], row["offset"]
                yield row | {
                    "site": settings.site if row["layer"] is not None else None,
                    "target": "text",
                    "domain": domain,
                    "split": split,
                    "positions": positions,
                    "seed": settings.seed,
                    "n_parameters": measured.n_parameters(*at),
                    "kl_nats": _kl(measured, row, domain, split, positions),
                    "converged": _converged(measured, *at),
                }


def _kl(
    measured: Measurement, row: dict[str, Any], domain: str, split: str, positions: str
) -> float | None:
    if (row["readout"], row["offset"], split, positions) != ("lens", 1, "test", "all"):
        return None
    return measured.lens_kl.get((domain, row["layer"]))


def _converged(measured: Measurement, readout: str, layer: int | None, offset: int) -> bool | None:
    if readout != "linear" or layer is None:
        return None
    return measured.probes.probes[layer, offset].converged

"""The content of results.json, put together from what was measured."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from probekit import provenance
from probekit.checks import Check
from probekit.pipelines.analysis.measure import Measurement
from probekit.pipelines.analysis.verdict import Findings
from probekit.runs.folder import SCHEMA
from probekit.runs.metadata import model_row, run_row
from probekit.scoring import contrasts
from probekit.scoring.rates import CONTROL

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
    ceilings, branching = measured.ceilings, measured.branching
    engine_checks = [check for ceiling in ceilings for check in ceiling.checks]
    setup = measured.setup
    loaded = setup.loaded
    own = {"softcap": setup.anatomy.softcap, "tokenizer": provenance.tokenizer(loaded.tokenizer)}
    return {
        "schema": SCHEMA,
        "run": run_row(setup, asdict(measured.settings), measured.journal)
        | {"attention": loaded.attention},
        "model": model_row(setup) | own,
        "text": setup.text,
        "verdict": findings.verdict,
        "headlines": findings.headlines,
        "scores": list(_scores(measured)),
        "marginal": [row for ceiling in ceilings for row in ceiling.rows],
        "branching": branching,
        "specialization": findings.rows,
        "controls": list(contrasts.controls(measured.sums)),
        "families": list(contrasts.families(measured.sums, measured.families)),
        "sequences": list(contrasts.sequences(measured.sums, measured.settings.target)),
        "codelength": measured.codelength,
        "checks": [asdict(check) for check in [*checks, *engine_checks]],
        "warnings": [*unmet, *setup.warnings, *findings.warnings],
    }


def _scores(measured: Measurement) -> Iterator[dict[str, Any]]:
    sums = measured.sums
    again: dict[int, set[str] | None] = {measured.settings.seed: None, **sums.repeated}
    for domain in sums.groups:
        validation = sums.rates(domain, "validation", "all")
        offsets = range(1, measured.settings.offsets + 1)
        floors = {offset: validation.token_floor(offset) for offset in offsets}
        for split, positions in SCORED:
            for seed, readouts in again.items():
                rates = sums.rates(domain, split, positions, seed)
                for row in rates.rows(floors):
                    if readouts is None or row["readout"] in readouts:
                        place = {"domain": domain, "split": split, "positions": positions}
                        yield row | place | _described(measured, row, place) | {"seed": seed}


def _described(measured: Measurement, row: dict[str, Any], place: dict[str, str]) -> dict[str, Any]:
    settings, readout = measured.settings, row["readout"]
    at = readout, row["layer"], row["offset"]
    job = measured.job(readout)
    placed = row["layer"] is not None or (job is not None and job.family == "concat")
    return {
        "site": settings.site if placed else None,
        "target": readout if readout == CONTROL else settings.target,
        "n_parameters": measured.n_parameters(*at),
        "kl_nats": _kl(measured, row, place),
        "converged": _converged(measured, *at),
    }


def _kl(measured: Measurement, row: dict[str, Any], place: dict[str, str]) -> float | None:
    at = row["readout"], row["offset"], place["split"], place["positions"]
    if at != ("lens", 1, "test", "all"):
        return None
    return measured.lens_kl.get((place["domain"], row["layer"]))


def _converged(measured: Measurement, readout: str, layer: int | None, offset: int) -> bool | None:
    job = measured.job(readout)
    return None if job is None else measured.fitted[job].probes[layer, offset].converged

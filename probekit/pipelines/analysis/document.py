"""The content of results.json, put together from what was measured."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from probekit import provenance
from probekit.checks import Check
from probekit.pipelines.analysis import causality, more_text
from probekit.pipelines.analysis.breakdown import by_class
from probekit.pipelines.analysis.measure import Measured
from probekit.pipelines.analysis.scores.scorer import PLACES
from probekit.pipelines.analysis.verdict import Findings
from probekit.progress import Journal
from probekit.readout import CONCAT, CONTROL, LENS, LINEAR
from probekit.reports.analysis.sites import site_sentence
from probekit.runs.folder import SCHEMA
from probekit.runs.metadata import model_row, run_row
from probekit.scoring import contrasts


def document(
    measured: Measured,
    findings: Findings,
    checks: Sequence[Check],
    warnings: Sequence[dict[str, str]],
    journal: Journal,
) -> dict[str, Any]:
    """Return the content of results.json.

    Args:
        measured: The measurements.
        findings: What follows from them.
        checks: Checks of the model.
        warnings: Those of the checks that failed.
        journal: Which stages took how long.
    """
    engine_checks = [check for ceiling in measured.ceilings for check in ceiling.checks]
    setup = measured.setup
    loaded = setup.loaded
    transplants = list(contrasts.transplants(measured.sums))
    of_analysis = {
        "softcap": setup.anatomy.softcap,
        "tokenizer": provenance.tokenizer_digest(loaded.tokenizer),
    }
    return {
        "schema": SCHEMA,
        "run": run_row(setup, measured.settings, journal) | {"attention": loaded.attention},
        "model": model_row(setup) | of_analysis,
        "text": setup.text,
        "verdict": list(_sentences(measured, findings)),
        "offsets": findings.offsets,
        "scores": list(_scores(measured, findings)),
        "marginal": [row for ceiling in measured.ceilings for row in ceiling.rows],
        "branching": measured.nucleus_sizes,
        "specialization": findings.rows,
        "controls": list(contrasts.controls(measured.sums, measured.kept)),
        "families": list(contrasts.families(measured.sums, measured.families)),
        "sequences": list(contrasts.sequences(measured.sums, measured.settings.target)),
        "codelength": measured.codelength,
        "learning": measured.learning,
        "causal": measured.causal,
        **measured.sites.rows,
        **measured.breakdown,
        **({"horizon": findings.horizon} if findings.horizon else {}),
        **({"transplants": transplants} if transplants else {}),
        "checks": [asdict(check) for check in [*checks, *engine_checks]],
        "warnings": [*warnings, *setup.warnings, *findings.warnings],
    }


def _sentences(measured: Measured, findings: Findings) -> Iterator[str]:
    yield from findings.verdict
    yield from more_text.sentences(measured.learning)
    yield from by_class(measured.breakdown["classes"])
    yield from causality.sentences(measured.causal)
    if rows := measured.sites.rows.get("sites"):
        yield site_sentence(rows, min(2, measured.settings.offsets))


def _scores(measured: Measured, findings: Findings) -> Iterator[dict[str, Any]]:
    sums = measured.sums
    again: dict[int, set[str] | None] = {measured.settings.seed: None, **sums.repeated}
    for domain in sums.groups:
        validation = sums.rates(domain, "validation", "all")
        offsets = range(1, measured.settings.offsets + 1)
        floors = {offset: validation.token_floor(offset) for offset in offsets}
        for split, positions in PLACES:
            for seed, readouts in again.items():
                rates = sums.rates(domain, split, positions, seed)
                for row in rates.rows(floors):
                    if readouts is None or row["readout"] in readouts:
                        place = {"domain": domain, "split": split, "positions": positions}
                        placed = row | place | {"seed": seed}
                        share = _share(findings, placed, measured.settings.seed)
                        yield placed | _described(measured, row, place) | share


def _described(measured: Measured, row: dict[str, Any], place: dict[str, str]) -> dict[str, Any]:
    settings, readout = measured.settings, row["readout"]
    cell = readout, row["layer"], row["offset"]
    fit = measured.fit_of(readout)
    reads_layers = row["layer"] is not None or (fit is not None and fit.family == CONCAT)
    return {
        "site": settings.sites[0] if reads_layers else None,
        "target": readout if readout == CONTROL else settings.target,
        "n_parameters": measured.n_parameters(*cell),
        "kl_nats": _kl(measured, row, place),
        "converged": measured.converged(*cell),
    }


def _share(findings: Findings, row: dict[str, Any], seed: int) -> dict[str, float | None]:
    """Return the share of what the model knows that a row's probe reads, where it is known.

    There is one a layer, on both sets of positions.
    """
    kind = row["readout"], row["split"], row["seed"]
    none: dict[str, float | None] = {"share": None, "share_low": None, "share_high": None}
    if kind != (LINEAR, "test", seed):
        return none
    return findings.shares.get((row["domain"], row["layer"], row["offset"]), none)


def _kl(measured: Measured, row: dict[str, Any], place: dict[str, str]) -> float | None:
    row_of_lens = row["readout"], row["offset"], place["split"], place["positions"]
    if row_of_lens != (LENS, 1, "test", "all"):
        return None
    return measured.lens_kl.get((place["domain"], row["layer"]))

"""The content of heads.json: scores, tables, verdict, checks and warnings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from probekit.checks import Check
from probekit.pipelines.head_study import findings, layer_sweep, score_strategies, verdict
from probekit.pipelines.head_study.layer_sweep import Sweep
from probekit.pipelines.head_study.standing import Standing, standings
from probekit.pipelines.head_study.study import Study
from probekit.runs import metadata
from probekit.runs.setup import Setup
from probekit.scoring.rates import ROUGH_NATS, DocumentSums
from probekit.settings import Settings

SCHEMA = "probekit.heads/1"


def heads_document(
    study: Study,
    sums: DocumentSums,
    trained: Mapping[str, Mapping[str, Any]],
    probe: Mapping[str, Any] | None,
    swept: Sweep | None,
) -> dict[str, Any]:
    """Return the content of heads.json but what `checks_and_warnings` returns.

    Args:
        study: Model and text, settings.
        sums: The scores.
        trained: Notes of each training.
        probe: Notes of the linear probe of the layer that heads read, if any do.
        swept: The sweep over layers, if there was one.
    """
    names = [name for name in study.settings.trained if name in trained]
    of_heads = {name: trained[name] for name in names}
    fitted = standings(of_heads, probe, verdict.OFFSET) if probe is not None else {}
    own_heads = [score_strategies.OWN] if score_strategies.own_heads(study) is not None else []
    sentences = verdict.sentences(sums, fitted)
    sentences += [layer_sweep.answer(swept)] if swept is not None else []
    # Schema 1 lists the settings of an analysis too, which mean nothing here.
    unread = asdict(Settings())
    return {
        "schema": SCHEMA,
        "run": metadata.run_row(study.setup, study.settings, study.stages.journal, unread),
        "model": metadata.model_row(study.setup),
        "text": study.setup.text,
        "verdict": sentences,
        "scores": findings.score_rows(sums),
        "differences": findings.difference_rows(sums, own_heads),
        "gaps": findings.gap_rows(sums, names),
        "training": [_training(name, n, fitted.get(name)) for name, n in trained.items()],
        "curves": [{"strategy": name} | row for name, n in trained.items() for row in n["curve"]],
        "probe": probe,
        "sweep": layer_sweep.rows(swept) if swept is not None else [],
    }


def _training(name: str, notes: Mapping[str, Any], standing: Standing | None) -> dict[str, Any]:
    recipe = notes["recipe"]
    return {
        "strategy": name,
        "left_out": standing.reason or None if standing is not None else None,
        "n_parameters": notes["n_parameters"],
        "best_steps": notes["best_steps"],
        "stopped_early": notes["stopped_early"],
        "seconds": notes["seconds"],
        "learning_rate": recipe["learning_rate"],
        "head_rate_factor": recipe["head_rate_factor"],
        "joint": recipe["joint"],
        "mix": recipe["mix"],
        "normalise": recipe["normalise"],
        "finetuned": recipe["finetuned"],
    }


def checks_and_warnings(
    setup: Setup,
    sums: DocumentSums,
    references: Mapping[str, Mapping[str, Any]],
    checks: Sequence[Check],
    failed: Sequence[dict[str, str]],
) -> dict[str, Any]:
    """Return checks and warnings.

    Args:
        setup: Model and text.
        sums: The scores.
        references: Notes of the references by name.
        checks: Checks of the model.
        failed: Warnings of those that failed.
    """
    rows = [row for notes in references.values() for row in notes.get("marginal", [])]
    engine = [
        check | {"name": f"{check['name']} ({name})"}
        for name, notes in references.items()
        for check in notes.get("checks", [])
    ]
    warnings = [
        *failed,
        *setup.warnings,
        *verdict.warnings(sums),
        *_warnings(references),
    ]
    return {
        "marginal": rows,
        "checks": [*(asdict(check) for check in checks), *engine],
        "warnings": warnings,
    }


def _warnings(references: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    for name, notes in references.items():
        if notes.get("reason"):
            yield {"code": "not-scored", "message": f"{name} was not scored: {notes['reason']}"}
        wide = [row for row in notes.get("marginal", []) if row["nats_error"] > ROUGH_NATS]
        if wide:
            worst = max(row["nats_error"] for row in wide)
            yield {
                "code": "estimate",
                "message": f"{name}, marginalized, is an estimate: its cross-entropy is known to "
                f"± {worst:.2f} nats only. Raise --max-branches or --marginal-positions.",
            }

"""What results.json and heads.json say of a run and its model."""

import datetime
import uuid
from collections.abc import Mapping
from typing import Any

from probekit import provenance
from probekit.progress import Journal
from probekit.runs.setup import Setup


def run_row(setup: Setup, settings: Mapping[str, Any], journal: Journal) -> dict[str, Any]:
    """Return how a run was made, as results.json and heads.json say it.

    Args:
        setup: Model and text.
        settings: What was set, the seed among it; what was not is left out.
        journal: Which stages took how long.
    """
    loaded, seconds = setup.loaded, journal.seconds
    return {
        "id": uuid.uuid4().hex,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": provenance.command(),
        "seconds": sum(seconds.values()),
        "stage_seconds": dict(seconds),
        "seed": settings["seed"],
        "device": provenance.machine(loaded.model.device),
        "dtype": loaded.dtype,
        "separator": setup.parting.separator.kind,
        "versions": dict(provenance.versions()),
        # As JSON has it, so that a report is the same from memory and file.
        "settings": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
            if value is not None
        },
    }


def model_row(setup: Setup) -> dict[str, Any]:
    """Return what results.json and heads.json say of a model."""
    loaded, anatomy = setup.loaded, setup.anatomy
    return {
        "name": loaded.name,
        "repository": loaded.repository,
        "revision": loaded.revision,
        "architecture": type(loaded.model).__name__,
        "n_layers": anatomy.n_layers,
        "d_model": anatomy.d_model,
        "vocab_size": anatomy.vocab_size,
        "n_parameters": loaded.n_parameters,
        "fingerprint": setup.fingerprint,
    }

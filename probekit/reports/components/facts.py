"""How a run was made: its model, circumstances, settings, versions and seconds, as texts."""

from collections.abc import Iterable, Mapping
from typing import Any

from probekit.reports.components.numbers import compact, fixed
from probekit.reports.components.rows import Row

RUN_FACTS = (
    ("Run", "id"), ("Created", "created"), ("Seconds", "seconds"), ("Seed", "seed"),
    ("Device", "device"), ("Data type", "dtype"), ("Documents are parted by", "separator"),
)  # fmt: skip
_ATTENTION = ("Attention", "attention")  # of an analysis alone
_MODEL_FACTS = (
    ("Name", "name"), ("Repository", "repository"), ("Revision", "revision"),
    ("Architecture", "architecture"), ("Blocks", "n_layers"), ("Width", "d_model"),
    ("Vocabulary", "vocab_size"), ("Parameters", "n_parameters"),
    ("Soft cap of the logits", "softcap"), ("Fingerprint", "fingerprint"),
)  # fmt: skip


def facts(given: Mapping[str, Any], names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (label, text) of what a run records of itself, in the order of (label, name).

    What it does not record is left out.

    >>> facts({"seed": 0, "revision": None}, [("Seed", "seed"), ("Revision", "revision")])
    [('Seed', '0'), ('Revision', 'none')]
    """
    recorded = [(label, given[name]) for label, name in names if name in given]
    return [(label, "none" if value is None else compact(value)) for label, value in recorded]


def how_it_was_made(document: Row) -> dict[str, Any]:
    """Return what the part "How this was measured" of a page shows of a run or of a study."""
    made, model = document["run"], document["model"]
    return {
        "model": model,
        "made": made,
        "facts": facts(model, _MODEL_FACTS),
        "circumstances": facts(made, (*RUN_FACTS, _ATTENTION)),
        "stages": [(k, fixed(float(v), 1)) for k, v in (made.get("stage_seconds") or {}).items()],
        "versions": [(k, compact(v)) for k, v in (made.get("versions") or {}).items()],
        "settings": [(k, _setting(v)) for k, v in (made.get("settings") or {}).items()],
    }


def _setting(value: object) -> str:
    return "not set" if value is None else str(value)

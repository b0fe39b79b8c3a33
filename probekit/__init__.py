"""Measure how far ahead a model's hidden layers see, and how much can be read out in one go.

    run = probekit.analyze("tiny")      the main job; see `probekit.analysis`
    run.scores                          a tidy DataFrame
    run.report                          the HTML report
    probekit.load(folder)               a finished run
    probekit.load_probes(folder)        its probes, to apply to new text
    probekit.compare([folder, ...])     several runs side by side
    probekit.study_heads("tiny")        heads, trained by several strategies

Names are imported when they are first used: `import probekit` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probekit.analysis import analyze, load_probes
    from probekit.comparison import Comparison, compare
    from probekit.head_study import HeadRun, study_heads
    from probekit.results import Run, load
    from probekit.settings import Settings

_HOMES = {
    "analyze": "probekit.analysis",
    "load_probes": "probekit.analysis",
    "Comparison": "probekit.comparison",
    "compare": "probekit.comparison",
    "HeadRun": "probekit.head_study",
    "study_heads": "probekit.head_study",
    "Run": "probekit.results",
    "load": "probekit.results",
    "Settings": "probekit.settings",
}

__all__ = [
    "Comparison",
    "HeadRun",
    "Run",
    "Settings",
    "analyze",
    "compare",
    "load",
    "load_probes",
    "study_heads",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'probekit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

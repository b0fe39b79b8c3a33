"""Measure how far ahead a model's hidden layers see, and how much can be read out in one go.

    run = probekit.analyze("tiny")      the main job; see `probekit.pipelines.analysis.analyze`
    run.scores                          a tidy DataFrame
    run.report                          the HTML report
    probekit.load(folder)               a finished run, also "hub:owner/name"
    probekit.load_probes(folder)        its probes, to apply to new text
    probekit.compare([folder, ...])     several runs side by side
    probekit.study_heads("tiny")        heads, trained by several strategies
    probekit.export_heads(folder, to)   its Medusa heads, as a serving engine reads them
    probekit.draft("tiny")              readouts draft tokens, the model verifies them; timed
    probekit.marginalize(model, ids)    what a model itself knows of the token after the next one
    probekit.reproduce("figure-1")      the paper's protocol beside the paper's numbers

Names are imported when they are first used: `import probekit` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probekit.errors import ProbekitError
    from probekit.marginalization.marginalize import marginalize
    from probekit.pipelines.analysis.analyze import analyze, load_probes
    from probekit.pipelines.analysis.finished import Run, load
    from probekit.pipelines.comparison.compare import Comparison, compare
    from probekit.pipelines.drafting.draft import DraftRun, draft
    from probekit.pipelines.head_study.export_heads import export_heads
    from probekit.pipelines.head_study.study_heads import HeadRun, study_heads
    from probekit.pipelines.reproduction.reproduce import Reproduction, reproduce
    from probekit.settings import Settings

_HOMES = {
    "marginalize": "probekit.marginalization.marginalize",
    "analyze": "probekit.pipelines.analysis.analyze",
    "load_probes": "probekit.pipelines.analysis.analyze",
    "Comparison": "probekit.pipelines.comparison.compare",
    "compare": "probekit.pipelines.comparison.compare",
    "DraftRun": "probekit.pipelines.drafting.draft",
    "draft": "probekit.pipelines.drafting.draft",
    "HeadRun": "probekit.pipelines.head_study.study_heads",
    "study_heads": "probekit.pipelines.head_study.study_heads",
    "Reproduction": "probekit.pipelines.reproduction.reproduce",
    "ProbekitError": "probekit.errors",
    "reproduce": "probekit.pipelines.reproduction.reproduce",
    "Run": "probekit.pipelines.analysis.finished",
    "export_heads": "probekit.pipelines.head_study.export_heads",
    "load": "probekit.pipelines.analysis.finished",
    "Settings": "probekit.settings",
}

__all__ = [
    "Comparison",
    "DraftRun",
    "HeadRun",
    "ProbekitError",
    "Reproduction",
    "Run",
    "Settings",
    "analyze",
    "compare",
    "draft",
    "export_heads",
    "load",
    "load_probes",
    "marginalize",
    "reproduce",
    "study_heads",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("probekit-mtp")
    if name not in _HOMES:
        raise AttributeError(f"module 'probekit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

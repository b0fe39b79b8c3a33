"""The card of a repository that holds a run: what it found, and how it is read."""

import html
import json
from collections.abc import Mapping
from typing import Any

LIBRARY = "probekit"
FIGURE = "figure.png"
TAGS = (LIBRARY, "interpretability", "multi-token-prediction", "linear-probes")
# What reads a job again, by the kind of its schema.
READ = {
    "probekit.results": (
        "run = probekit.load({address})",
        "probes = probekit.load_probes({address})",
    ),
    "probekit.heads": ("study = study_heads.load({address})",),
    "probekit.draft": ("drafts = draft.load({address})",),
}
IMPORTS = {
    "probekit.results": "import probekit",
    "probekit.heads": "from probekit.pipelines.head_study import study_heads",
    "probekit.draft": "from probekit.pipelines.drafting import draft",
}


def card(document: Mapping[str, Any], repository: str, with_figure: bool) -> str:
    """Return a README.md in the Hub's form; what comes of the run is escaped.

    Args:
        document: The content of results.json, heads.json or draft.json.
        repository: The owner/name that the card is for.
        with_figure: Whether the repository holds the figure.
    """
    kind = document["schema"].partition("/")[0]
    model, texts = document["model"], [row["domain"] for row in document["text"]]
    verdict = [f"- {_plain(sentence)}" for sentence in document["verdict"]]
    address = json.dumps(f"hub:{repository}")
    calls = [call.format(address=address) for call in READ[kind]]
    figure = [f"![What was measured, as the report shows it]({FIGURE})", ""] if with_figure else []
    lines = [
        "---",
        *_metadata(model),
        "---",
        f"# What {_plain(model['name'])} says of the tokens ahead",
        "",
        *verdict,
        "",
        *figure,
        f"Measured by {LIBRARY} on held-out text "
        f"({_plain(', '.join(texts))}); `report.html` is the report, `run.toml` has the settings.",
        "",
        "```python",
        IMPORTS[kind],
        "",
        *calls,
        "```",
        "",
        "No licence is named yet: add `license:` at the top of this card.",
    ]
    return "\n".join(lines) + "\n"


def _metadata(model: Mapping[str, Any]) -> list[str]:
    base = [f"base_model: {json.dumps(model['repository'])}"] if model["repository"] else []
    return [f"library_name: {LIBRARY}", "tags:", *(f"- {tag}" for tag in TAGS), *base]


def _plain(text: str) -> str:
    """Return a text as Markdown shows it letter by letter."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_[]|~" else letter for letter in escaped)

"""The page of a measured draft: the answer, predicted against measured, costs, drafted texts."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from probekit.reports.analysis.tables import check_table, text_table
from probekit.reports.components.colours import offset_colours
from probekit.reports.components.facts import how_it_was_made
from probekit.reports.components.rows import Row
from probekit.reports.components.templates import rendered
from probekit.reports.components.visible_text import pieces
from probekit.reports.drafting.figures import answer_figures, cost_figure
from probekit.reports.drafting.rows import called, domains, require_draft, shape
from probekit.reports.drafting.tables import (
    answer_table,
    cost_table,
    drafter_tables,
    greedy_table,
    offset_tables,
)


def render_draft(document: Mapping[str, Any]) -> str:
    """Turn a measured draft into one self-contained HTML page.

    The page loads nothing, needs no script, and is the same bytes for the same draft. Nothing of
    the run is trusted: all of it is escaped.

    Args:
        document: The content of draft.json, schema probekit.draft/1.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        RunError: If the schema is not the one that this version reads.
    """
    require_draft(document)
    largest = max((row["horizon"] for row in document["drafters"]), default=2)
    values = {
        **how_it_was_made(document),
        "verdict": document["verdict"],
        "warnings": document["warnings"],
        "domain": domains(document)[0],
        "offset_schemes": list(zip(*offset_colours(largest), strict=True)),
        "found": answer_table(document),
        "answers": answer_figures(document),
        "cost": cost_figure(document),
        "cost_table": cost_table(document),
        "greedy": greedy_table(document),
        "drafters": drafter_tables(document),
        "offsets": offset_tables(document),
        "examples": list(_examples(document)),
        "texts": text_table(document["text"]),
        "checks": check_table(document["checks"]),
    }
    return rendered("drafting.html.j2", values)


def _examples(document: Row) -> Iterator[dict[str, Any]]:
    """Yield drafted texts, in runs of tokens that were accepted and that the model chose."""
    for row in document["examples"]:
        tokens = zip(row["tokens"], row["accepted"], strict=True)
        runs = [
            (accepted, [pieces(token) for token, _ in run])
            for accepted, run in groupby(tokens, key=lambda each: each[1])
        ]
        share = sum(row["accepted"]) / max(1, len(row["accepted"]))
        yield {
            "title": f"{row['domain']}: {called(row)}, {shape(row['widths'])}",
            "share": f"{100 * share:.0f} % of the tokens were drafted",
            "prompt": row["prompt"],
            "runs": runs,
        }

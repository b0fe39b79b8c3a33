"""The report's transplants: in a table of their own, and in no other but that of all scores."""

from typing import Any

import pytest

from probekit.reports import render
from probekit.reports.analysis.rows import index
from probekit.reports.analysis.tables import readout_tables, transplant_tables
from probekit.reports.components.numbers import DASH
from support.pages.synthetic_run import Size, results


def run_of(fed: bool) -> dict[str, Any]:
    run = results(Size(layers=2, offsets=2, domains=("prose",)))
    if fed:
        lens = [
            row
            for row in run["scores"]
            if (row["readout"], row["positions"]) == ("lens", "marginal")
        ]
        run["scores"] += [
            row | {"readout": "transplant", "blind": row["offset"] == 1, "top1": 1.0, "nats": 0.0}
            for row in lens
        ]
        run["transplants"] = [
            {
                "layer": row["layer"], "offset": row["offset"], "domain": row["domain"],
                **{f"top1{end}": 0.25 for end in ("", "_low", "_high")},
                **{f"top1_alone{end}": 0.125 for end in ("", "_low", "_high")},
                **{f"top1_token{end}": 0.1875 for end in ("", "_low", "_high")},
                **{f"bits_gained{end}": 0.5 for end in ("", "_low", "_high")},
                **{f"top1_gained{end}": 0.125 for end in ("", "_low", "_high")},
            }
            for row in lens
        ]  # fmt: skip
    return run


def test_they_stand_in_a_table_of_their_own_behind_what_the_tokens_tell() -> None:
    (table,) = [t for t in transplant_tables(index(run_of(fed=True))) if t.caption == "prose"]
    assert "t+2, token-fed, right (%)" in table.head
    assert "t+1, right (%)" in table.head
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts[0] == ["none", *["12.5", DASH, DASH] * 2]
    assert texts[1] == ["none, but the token", *["18.8", DASH, DASH] * 2]
    assert texts[2:] == [[str(layer), *["25.0", "12.5", "0.50"] * 2] for layer in (0, 1, 2)]
    assert transplant_tables(index(run_of(fed=False))) == []


@pytest.mark.usefixtures("undrawn")
def test_nothing_else_on_the_page_takes_them() -> None:
    fed, plain = run_of(fed=True), run_of(fed=False)
    assert index(fed).scores == index(plain).scores
    (table,), _ = readout_tables(index(fed))
    sees = {row[1].text: row[3].text for row in table.rows if row[0].text == "transplant"}
    assert sees == {"t+1": "blind", "t+2": "token-fed"}
    page = render(fed)
    assert '<section id="transplants"' in page
    assert "transplant (--readout)" not in page
    page = render(plain)
    assert 'id="transplants"' not in page
    assert "Further readouts: jacobian-lens, mask-token, transplant (--readout)." in page

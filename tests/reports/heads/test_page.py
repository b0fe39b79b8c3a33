"""The page of a study of heads: every number, nothing of the run as markup, the same bytes."""

import copy
import math
import re

import pytest

from probekit.errors import RunError
from probekit.reports.components.numbers import METRICS, MINUS, fixed
from probekit.reports.components.tables import Cell
from probekit.reports.heads.first_screen import answer_table
from probekit.reports.heads.page import render_heads
from probekit.reports.heads.tables import (
    cost_tables,
    difference_tables,
    in_figures,
    strategy_tables,
    sweep_tables,
    training_table,
)
from support.pages.parsed_pages import Page
from support.pages.synthetic_heads import EVIL, STRATEGIES, document, hostile


def test_the_page_is_the_same_bytes_and_loads_nothing() -> None:
    page = render_heads(document())
    assert page == render_heads(document())
    found = Page(page)
    assert "script" not in {tag for tag, _ in found.tags}
    links, ids = [*found.all("href"), *found.all("src")], found.all("id")
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert len(ids) == len(set(ids))
    assert "default-src 'none'; style-src 'unsafe-inline'" in page


def test_every_sentence_and_warning_is_there() -> None:
    page, given = render_heads(document()), document()
    for sentence in [*given["verdict"], *(row["message"] for row in given["warnings"])]:
        assert sentence in page
    assert "heads-joint.safetensors" in page


def test_nothing_of_the_run_is_markup() -> None:
    clean = Page(render_heads(document()))
    page = render_heads(hostile())
    assert EVIL not in page
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "script" not in {tag for tag, _ in Page(page).tags}
    # Those in figures are numbered, and hostile names are none that has a mark of its own.
    named = [
        [name for name in found.all("id") if not name[-1].isdigit()]
        for found in (clean, Page(page))
    ]
    assert named[0] == named[1]


def test_the_tables_show_the_numbers() -> None:
    given = document()
    named: dict[str, Cell] = {}
    for (table,) in (strategy_tables(given), difference_tables(given)):
        assert len(table.rows) == 2 * len(STRATEGIES) - 1  # the probe has no offset 1
        by_row = {(row[0].text, row[1].text): row for row in table.rows}
        named |= dict(zip(table.head, by_row["joint with LoRA", "t+2"], strict=True))
    (own,) = [
        each for each in given["scores"]
        if (each["strategy"], each["offset"], each["positions"]) == ("joint", 2, "marginal")
    ]  # fmt: skip
    assert named["Cross-entropy (nats)"].text == fixed(own["nats"], 3)
    assert named["Top-5 (%)"].text == fixed(100 * own["top5"], 1)
    assert named["Nats against the baseline"].text == "0.777"
    assert named["Top-5 against the baseline (points)"].interval == f"{MINUS}3.5 to {MINUS}3.3"
    assert named["Gap closed, nats (%)"].text == "42"
    assert named["Gap closed, top-5 (%)"].missing == "too small a gap"
    (cost,) = cost_tables(given)
    assert [cell.missing for cell in cost.rows[1][3:5]] == ["it is the reference itself"] * 2
    assert cost.rows[3][3].text == "0.777"


def test_the_first_table_is_in_bits_and_turns_differences_so_that_more_is_better() -> None:
    given = document()
    for row in given["differences"]:
        row |= {"nats": math.log(2), "nats_low": 0.5 * math.log(2), "nats_high": 2 * math.log(2)}
    rows = {row[0].text: row for row in answer_table(given).rows}
    assert list(rows) == in_figures(STRATEGIES)
    assert [cell.text for cell in rows["joint"][1:]] == ["2.10", f"{MINUS}1.00", "1.00"]
    assert rows["joint"][2].interval == f"{MINUS}2.00 to {MINUS}0.50"
    assert rows["joint"][3].interval == "0.50 to 2.00"
    assert rows["heads-only"][0].interval == "takes part in no order"
    missing = [rows[name][place].missing for name, place in (("linear probe", 2), ("baseline", 3))]
    assert missing == ["it is what others are held against"] * 2
    assert rows["linear probe"][3].missing == "it does not predict that token"


def test_the_sweep_and_the_training_show_theirs() -> None:
    (table,) = sweep_tables(document())
    assert [row[0].text for row in table.rows] == ["0", "1", "2"]
    assert table.rows[1][1].text == fixed(5.1, METRICS["nats"].digits)
    assert table.rows[1][3].text == "0.250"
    rows = {row[0].text: row for row in training_table(document()).rows}
    assert rows["joint with LoRA"][4].text == "0.001"
    assert rows["joint with LoRA"][5].text == "0.004"
    assert rows["heads only, frozen model"][4].missing == "frozen"
    assert rows["heads only, frozen model"][-1].text == "no: trained too little"
    assert rows["joint with LoRA"][-1].text == "yes"


def test_a_layer_that_one_of_the_two_did_not_read_keeps_the_others_numbers() -> None:
    study = document()
    study["sweep"] = [
        row for row in study["sweep"] if (row["readout"], row["layer"]) != ("linear", 1)
    ]
    (table,) = sweep_tables(study)
    assert [row[2].missing for row in table.rows] == ["", "not recorded", ""]
    assert table.rows[1][1].text == fixed(5.1, METRICS["nats"].digits)
    assert 'id="sweep"' in render_heads(study)


def test_a_study_without_a_sweep_has_no_section_for_it() -> None:
    without = document() | {"sweep": []}
    assert 'id="sweep"' in render_heads(document())
    assert 'id="sweep"' not in render_heads(without)


def test_each_figure_has_words() -> None:
    page = render_heads(document())
    labels = re.findall(r'role="img" aria-label="([^"]+)"', page)
    assert len(labels) == 4 + 2 + 2
    assert labels[0] == "Best at t+2: model as it came, marginalized, 2.50 bits"
    assert labels.count(labels[0]) == 1
    best = "best at layer 1 by validation, 5.100 nats"
    assert f"block head {best}; linear probe {best}" in labels


def test_another_schema_is_refused() -> None:
    other = copy.deepcopy(document()) | {"schema": "probekit.heads/2"}
    with pytest.raises(RunError, match=r"of schema 'probekit\.heads/1', got 'probekit\.heads/2'"):
        render_heads(other)

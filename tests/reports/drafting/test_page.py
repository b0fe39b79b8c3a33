"""The page of a measured draft: every number, nothing of the run as markup, the same bytes."""

import copy

import pytest

from probekit.errors import RunError
from probekit.reports.drafting.figures import answer_figures, cost_figure
from probekit.reports.drafting.page import render_draft
from probekit.reports.drafting.tables import (
    answer_table,
    cost_table,
    drafter_tables,
    greedy_table,
    offset_tables,
)
from support.pages.parsed_pages import Page
from support.pages.synthetic_draft import document, hostile
from support.pages.synthetic_heads import EVIL


def test_the_page_is_the_same_bytes_and_loads_nothing() -> None:
    page = render_draft(document())
    assert page == render_draft(document())
    found = Page(page)
    assert "script" not in {tag for tag, _ in found.tags}
    links, ids = [*found.all("href"), *found.all("src")], found.all("id")
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert len(ids) == len(set(ids))


def test_nothing_of_the_run_is_markup() -> None:
    page = render_draft(hostile())
    assert EVIL not in page
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "script" not in {tag for tag, _ in Page(page).tags}


def test_the_answer_is_the_first_sentence_and_the_first_table() -> None:
    given = document()
    page = render_draft(given)
    assert page.index(given["verdict"][0]) < page.index("<table")
    first = answer_table(given).rows[0]
    assert [cell.text for cell in first] == ["linear probe", "0.30", "0.33", "1.30", "0.90"]
    assert first[0].interval == "1 token; layer 1"
    assert [row[4].tone for row in answer_table(given).rows] == ["bad", "bad", "", "good"] + [
        "good"
    ] * 2
    assert answer_table(given).rows[5][2].missing


def test_every_number_of_a_row_is_in_its_table() -> None:
    given = document()
    tables = drafter_tables(given)
    assert [table.caption for table in tables] == [
        f"{d}: drafters" for d in ("all", "prose", "code")
    ]
    shown = [cell.text for cell in tables[0].rows[0]]
    assert shown == [
        "linear probe", "1 token", "no", "0.300", "0.330", "0.320", "1.300", "0.90", "1.37",
        "1.23", "0.37", "1.30", "16 of 16", "321", "0",
    ]  # fmt: skip
    conditional = [row[3].text for row in offset_tables(given)[0].rows if row[1].text == "3 tokens"]
    assert conditional[:3] == ["40.0", "30.0", "20.0"]
    assert [row[0].text for row in cost_table(given).rows] == ["1", "2", "4", "8"]
    assert greedy_table(given).rows[0][2].text == "4.10"


def test_what_was_accepted_is_marked() -> None:
    page = render_draft(document())
    assert "<bdi> a<mark> time<i>↵</i></mark>there</bdi>" in page
    assert "50 % of the tokens were drafted" in page


def test_figures_tell_what_they_show() -> None:
    given = document()
    accepted, speed = answer_figures(given)
    assert "linear probe, 1 token 0.30, predicted 0.33" in accepted.message
    assert "prompt lookup" not in accepted.message
    assert speed.message == "Fastest: prompt lookup, 3 tokens, 1.15 times greedy decoding"
    cost = cost_figure(given)
    assert cost is not None
    assert cost.message == "A pass over 8 tokens costs 3.5 times one over 1"
    assert cost_figure(given | {"cost": []}) is None


def test_sampled_texts_are_compared_with_nothing() -> None:
    given = copy.deepcopy(document())
    for row in given["drafters"]:
        row["equal_texts"] = None
    assert drafter_tables(given)[0].rows[0][12].missing == "texts are sampled"
    render_draft(given)


def test_another_schema_is_refused() -> None:
    with pytest.raises(RunError, match=r"probekit\.draft/1"):
        render_draft(document() | {"schema": "probekit.draft/0"})

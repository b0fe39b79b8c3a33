"""The page of a repeated figure or table: both sides' numbers, nothing of a name as markup."""

from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest

from probekit.paper import numbers
from probekit.reports.components.numbers import fixed
from probekit.reports.reproduction.page import (
    figure_files,
    markdown,
    page_figures,
    render_reproduction,
)
from probekit.reports.reproduction.paper_tables import papers_table
from probekit.reports.reproduction.sentences import reading, verdict, warnings
from probekit.reports.reproduction.tables import measured, trained
from support.pages.parsed_pages import Page
from support.pages.synthetic_reproduction import (
    DOCUMENTS,
    KNOWN,
    STRANGER,
    figure_1,
    figure_2,
    table_1,
)

EVIL = "<script>alert(1)</script>"


def sentences(document: dict[str, Any]) -> list[str]:
    told = [row["message"] for row in warnings(document)]
    return [*verdict(document), *reading(document), *told]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_page_loads_nothing_and_every_reference_resolves(name: str) -> None:
    page = Page(render_reproduction(DOCUMENTS[name]()))
    links, ids = [*page.all("href"), *page.all("src")], Counter(page.all("id"))
    assert [link for link in links if not link.startswith("#") and link != "data:,"] == []
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert set(page.all("aria-labelledby")) <= set(ids)
    assert max(ids.values()) == 1
    assert "script" not in {tag for tag, _ in page.tags}


def test_both_sides_numbers_are_in_the_first_table() -> None:
    _, *rows = Page(render_reproduction(figure_1())).rows["measured"]
    by_place = {(row[0], row[2], row[3]): row for row in rows}
    assert by_place[KNOWN, "translation", "second"][4:] == [
        "0.400 0.350 to 0.450", "40 (12)", "0.400 0.350 to 0.450", "900 (12)",
        "0.675 0.625 to 0.725", "640", "850", "0.990",
    ]  # fmt: skip
    assert by_place[STRANGER, "open-ended", "next"][8].endswith(
        "the paper does not have this model"
    )
    assert len(rows) == 8


def test_table_1_sets_each_strategy_beside_the_baseline_and_the_papers() -> None:
    table = measured(table_1())
    named = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert named[0]["Second less the baseline"].missing == "it is the baseline"
    joint, own = named[1], named[2]
    assert joint["Strategy"].text == "Joint, vanilla"
    columns = ("Next", "Second", "Second, the paper", "n (samples)")
    assert [joint[name].text for name in columns] == ["0.350", "0.200", "0.538", "200 (12)"]
    assert joint["Second less the baseline"].text == fixed(-0.125, 3)
    interval = f"{fixed(-0.175, 3)} to {fixed(-0.075, 3)}"
    assert joint["Second less the baseline"].interval == interval
    assert own["Second, the paper"].missing == "the paper does not have such a row"


def test_figure_1_is_a_picture_a_task_on_the_page_and_one_figure_in_its_files() -> None:
    found = page_figures(figure_1())
    ends = ["open-ended", "translation"]
    assert [each.message.rpartition(", ")[2] for each in found] == ends
    files = figure_files(figure_1())
    assert set(files) == {"figure.svg", "figure.pdf", "figure.png"}
    widths = [_width(text) for text in (found[0].svg, files["figure.svg"].decode())]
    assert widths[1] == 2 * widths[0]
    assert len(page_figures(figure_2())) == 1
    assert page_figures(table_1()) == []


def _width(svg: str) -> float:
    return float(ElementTree.fromstring(svg).attrib["viewBox"].split()[2])


def test_how_the_papers_numbers_were_had_is_said_in_words() -> None:
    captions = [papers_table(name).caption for name in ("figure-1", "figure-2", "table-1")]
    assert all("digitised from the figure" in caption for caption in captions[:2])
    assert "as printed" in captions[2]
    assert not any(word in "".join(captions) for word in ("FIG", "READ"))


def test_table_1_tells_sets_of_positions_apart_where_there_are_several() -> None:
    table = measured(table_1())
    place = table.head.index("Positions")
    texts = [row[place].text for row in table.rows]
    assert texts == 2 * (["last 20"] * 3 + ["extended"] * 3)
    plain = table_1()
    for row in plain["rows"]:
        del row["positions"], row["above_baseline"]
    head = ["Model", "Strategy", "Next", "Next, the paper", "Second", "Second, the paper"]
    assert list(measured(plain).head) == [*head, "n (samples)"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_name_of_the_run_is_markup(name: str) -> None:
    found: dict[str, Any] = DOCUMENTS[name]()
    for row in found["rows"]:
        row |= {key: EVIL + row[key] for key in ("model", "text", "strategy") if key in row}
    found |= {"command": EVIL, "strangers": [EVIL], "texts": [{"domain": EVIL, "location": EVIL}]}
    page = render_reproduction(found)
    assert EVIL not in page
    assert "script" not in {tag for tag, _ in Page(page).tags}
    assert EVIL in Page(page).text


def test_what_the_paper_leaves_open_is_answered_on_the_page_and_as_markdown() -> None:
    text = Page(render_reproduction(figure_2())).text
    written = markdown(figure_2())
    for left, taken in numbers.choices("figure-2"):
        assert left in text
        assert taken in text
        assert f"- {left} {taken}" in written


def test_the_training_stands_beside_the_papers() -> None:
    table = trained(table_1())
    assert table is not None
    own, theirs = (dict(zip(table.head, row, strict=True)) for row in table.rows)
    assert (own["Steps"].text, own["Blocks a step"].text) == ("254", "2")
    assert (theirs["Steps"].text, theirs["Blocks a step"].text) == ("3,125", "64")
    assert trained(figure_1()) is None
    assert "3,125 of 64: give more text" in " ".join(sentences(table_1()))
    enough = table_1()
    enough["runs"][0] |= {"steps": 3_125, "step_blocks": 64}
    assert "3,125 of 64" not in " ".join(sentences(enough))


def test_fewer_samples_than_were_asked_for_are_said() -> None:
    assert "were there" not in " ".join(sentences(figure_1()))
    few = figure_1() | {"samples": 50}
    said = " ".join(sentences(few))
    assert f"{STRANGER} on prose: 12 of the 50 samples asked for were there." in said
    alone = figure_1()
    for row in alone["rows"]:
        row["n_samples"] = 1
    assert "one sample has no interval" in " ".join(sentences(alone))


def test_the_papers_numbers_are_kept_from_what_is_not_its_experiment() -> None:
    other = table_1()
    for row in other["rows"]:
        row |= {"task": "open_ended", "paper_top5": None}
    said = " ".join(sentences(other))
    assert f"The paper's numbers are not set beside {KNOWN}: they are of translation" in said
    assert "give pairs with --text PAIRS.jsonl" in said
    assert "not set beside" not in " ".join(sentences(table_1()))


def test_runs_of_one_model_are_told_apart() -> None:
    assert "Run" not in measured(table_1()).head
    twice = table_1()
    again = [row | {"run": "other"} for row in twice["rows"]]
    twice["rows"] += again
    table = measured(twice)
    assert table.head[0] == "Run"
    assert {row[0].text for row in table.rows} == {f"{STRANGER}-heads", "other"}


TOO_LITTLE = {"joint": "trained too little: behind the linear probe of layer 5"}


@pytest.mark.parametrize(
    ("above_heads_only", "left_out", "said"),
    [
        (0.06, {}, "The paper's order is there ("),
        (0.04, {}, "The paper's order is not clear here ("),
        (-0.06, {}, "The paper's order is not clear here ("),
        (0.06, TOO_LITTLE, "Cannot tell whether the paper's order is there: joint takes"),
        (0.06, {"heads-from-probes": "its best step is the last, 15"}, "The paper's order is th"),
        (0.06, None, "The paper's order is seen here, but whether heads only and joint were tr"),
        (-0.06, None, "The paper's order is not clear here, but whether heads only and joint we"),
    ],
)
def test_the_order_of_heads_only_joint_and_baseline_is_told_of_what_takes_part_in_one(
    above_heads_only: float, left_out: dict[str, str] | None, said: str
) -> None:
    found = table_1()
    for row in found["rows"]:
        if "above_heads_only" in row:
            row |= {
                "above_heads_only": above_heads_only,
                "above_heads_only_low": above_heads_only - 0.05,
                "above_heads_only_high": above_heads_only + 0.05,
            }
    found["runs"][0]["left_out"] = left_out
    told = verdict(found)
    assert told[0].startswith(said)
    assert sum("second token, extended" in text for text in told) == 2, "one a model"
    assert "the baseline above joint by 0.125 [0.075 to 0.175]" in " ".join(told)
    assert (f"joint: {TOO_LITTLE['joint']}." in told) == (left_out == TOO_LITTLE)


def test_the_page_opens_with_the_answer() -> None:
    for name, words in (
        ("figure-1", "of next tokens and"), ("figure-2", "from the output"),
        ("table-1", "The paper's order"),
    ):  # fmt: skip
        page = Page(render_reproduction(DOCUMENTS[name]()))
        sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
        assert sections[0] == "verdict"
        assert words in verdict(DOCUMENTS[name]())[0]
        assert verdict(DOCUMENTS[name]())[0] in page.text

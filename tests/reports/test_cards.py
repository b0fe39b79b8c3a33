"""What a notebook shows of a finished job: a card that is short and inert, figures, a frame."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from probekit.errors import SettingsError
from probekit.reports.cards import Card, Frame, InFolder
from probekit.reports.components.colours import offset_colours
from probekit.reports.components.visible_text import clean
from support.pages import shared_pages, synthetic_draft, synthetic_heads, synthetic_reproduction
from support.pages.parsed_pages import Page
from support.pages.synthetic_run import results

MADE: Mapping[str, Callable[[], dict[str, Any]]] = {
    "results": shared_pages.small_run,
    "comparison": shared_pages.small_comparison,
    "heads": synthetic_heads.hostile,
    "draft": synthetic_draft.hostile,
    "reproduction": synthetic_reproduction.figure_1,
}
INERT = {"div", "p", "strong", "bdi", "table", "thead", "tbody", "tr", "th", "td", "small", "img"}


def card_of(document: dict[str, Any]) -> InFolder:
    return InFolder(Path("runs/<b>"), document)


@pytest.mark.parametrize("kind", MADE)
def test_a_card_is_short_and_inert(kind: str) -> None:
    document = MADE[kind]()
    card = card_of(document)
    told = repr(card)
    assert told.startswith("InFolder: runs/<b>\n")
    assert len(told) < 4_000
    assert len(told.splitlines()) < 25
    assert max(map(len, told.splitlines()[2:])) <= 100
    shown = Page(card._repr_html_())
    assert {tag for tag, _ in shown.tags} <= INERT
    assert {name for _, given in shown.tags for name in given} <= {"style", "alt", "src"}
    assert "runs/<b>" in shown.text
    assert len(shown.all("src")) == 1
    assert clean(card.verdict).splitlines()[0] in shown.text
    if "hacked" not in told:  # whose names pandas takes for no text
        assert len(card.headlines)


def test_headlines_are_the_numbers_of_the_scores() -> None:
    document = results(shared_pages.SMALL)
    found = card_of(document).headlines
    assert list(found["offset"]) == [1, 2, 3]
    for row, offset in zip(found.to_dict("records"), document["offsets"], strict=True):
        assert row["top1"] == offset["top1"]["best"]
        assert row["top1_floor"] == offset["top1"]["floor"]
        special = next(
            each
            for each in document["specialization"]
            if (each["offset"], each["domain"]) == (row["offset"], "all")
        )
        assert row["best_layer"] == special["best_layer"]
        assert special["recovered"] in (None, row["recovered"])


def test_a_figure_keeps_its_colours_wherever_it_is_shown() -> None:
    card = card_of(shared_pages.small_run())
    assert card.figures[0] == "specialization"
    [axes] = card.figure("specialization").axes
    colours = {line.get_color() for line in axes.lines}
    assert set(offset_colours(2)[0]) <= colours
    assert {text.get_color() for text in axes.texts} == {"#1a1a1a"}
    # As IPython shows it.
    shown: Any = axes.figure
    assert shown._repr_png_().startswith(b"\x89PNG")


def test_a_figure_that_is_not_there_is_answered_with_those_that_are() -> None:
    card = card_of(shared_pages.small_run())
    with pytest.raises(SettingsError, match=r"no figure 'curves'; the figures are specialization,"):
        card.figure("curves")


def test_the_figures_are_written_under_their_names(tmp_path: Path) -> None:
    card: Card = InFolder(tmp_path, synthetic_reproduction.figure_1())
    assert isinstance(card, InFolder)
    written = {path.name for path in card.write_figures().iterdir()}
    assert written == {f"{name}.{end}" for name in card.figures for end in FILES}


FILES = ("svg", "pdf", "png", "csv")


def test_a_page_in_a_frame_cannot_reach_the_notebook() -> None:
    [(tag, given)] = Page(Frame('<head></head><a href="#b">"</a><script>', 300)._repr_html_()).tags
    assert tag == "iframe"
    assert given["sandbox"] == "allow-scripts allow-popups allow-downloads"
    # The links of a page lead to its own parts.
    base = '<head><base href="about:srcdoc"></head>'
    assert given["srcdoc"] == f'{base}<a href="#b">"</a><script>'

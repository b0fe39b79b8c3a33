"""The report: all of the run is in it, nothing of the run acts in it, nothing is made up."""

import copy
import hashlib
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from typing import Any

import pytest
from synthetic_passages import Held, passages
from synthetic_run import HOSTILE, Size, results

from probekit.errors import RunError
from probekit.reports import render
from probekit.reports.colours import DARK, LIGHT, contrast, map_steps, offset_colours
from probekit.reports.curves import curve_message
from probekit.reports.escape import clean
from probekit.reports.figures import Curve, Level, Panel, curve_figure
from probekit.reports.numbers import METRICS
from probekit.reports.rows import index
from probekit.reports.svg import inline
from probekit.reports.tables import (
    FEW_ROWS,
    NO_ROOM,
    NOT_HERE,
    marginal_table,
    next_token_table,
    readout_tables,
    specialization_table,
)

SMALL = Size(layers=3, offsets=3)
SECTIONS = [
    "verdict",
    "warnings",
    "curves",
    "map",
    "inspector",
    "domains",
    "specialization",
    "lens",
    "marginalization",
    "sequences",
    "controls",
    "families",
    "readouts",
    "reading",
    "measured",
    "not-run",
]
DIGITS = {
    "top1": (100, 3, " %"),
    "top5": (100, 3, " %"),
    "bits": (1, 4, " bits"),
    "bits_given_token": (1, 4, " bits"),
    "nats": (1, 5, " nats"),
}


class Page(HTMLParser):
    """Collects start tags, all text, and every cell of the maps."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.cells: dict[tuple[str, ...], list[str]] = {}
        self._view: tuple[str, ...] = ()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if "map-view" in (named.get("class") or ""):
            keys = ("data-metric", "data-readout", "data-domain")
            self._view = tuple(named[key] or "" for key in keys)
            self.cells[self._view] = []
        if tag == "td" and "title" in named:
            self.cells[self._view].append(named["title"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def small() -> str:
    return render(results(SMALL))


@pytest.fixture(scope="module")
def hostile() -> str:
    return render(results(Size(layers=2, offsets=2, hostile=True)))


def _figures(html: str, positions: str) -> list[str]:
    return re.findall(rf'<figure[^>]*data-positions="{positions}">.*?</figure>', html, re.DOTALL)


def test_every_section_is_there_and_the_verdict_comes_first(small: str) -> None:
    ids = [attrs["id"] for tag, attrs in Page(small).tags if tag == "section"]
    assert ids == SECTIONS


def test_verdict_headlines_warnings_and_command_are_shown(small: str) -> None:
    run, text = results(SMALL), Page(small).text
    wanted = [*run["verdict"], run["warnings"][0]["message"], run["run"]["command"]]
    wanted += [row["label"] for row in run["headlines"]]
    wanted += [text["sha256"] for text in run["text"]]
    assert [words for words in wanted if words not in text] == []


def test_every_score_of_the_map_is_shown_with_its_exact_number(small: str) -> None:
    cells = Page(small).cells
    for number, domain in enumerate(("all", "prose", "code")):
        for name, readout in enumerate(("linear", "lens")):
            for metric, (scale, digits, unit) in DIGITS.items():
                shown = cells[metric, str(name), str(number)]
                rows = [
                    row
                    for row in results(SMALL)["scores"]
                    if (row["readout"], row["domain"], row["positions"], row["split"])
                    == (readout, domain, "all", "test")
                ]
                rows.sort(key=lambda row: (row["layer"], row["offset"]))
                exact = [f"{row[metric] * scale:,.{digits}f}{unit}" for row in rows]
                exact = [text.replace("-", "\N{MINUS SIGN}") for text in exact]
                assert [text.split(",")[0] for text in shown[: len(rows)]] == exact
                assert shown[0].endswith(f"n {rows[0]['n_positions']:,}")


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes_in_another_process(small: str) -> None:
    code = (
        "import hashlib; from synthetic_run import *; from probekit.reports import render;"
        "page = render(results(Size(layers=3, offsets=3)));"
        "print(hashlib.sha256(page.encode()).hexdigest())"
    )
    path = [entry for entry in sys.path if entry]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == hashlib.sha256(small.encode()).hexdigest()


def test_nothing_of_the_run_acts_in_the_page(hostile: str) -> None:
    tags = Page(hostile).tags
    count = Counter(tag for tag, _ in tags)
    assert (count["script"], count["style"], count["img"], count["iframe"]) == (1, 1, 0, 0)
    assert [name for _, attrs in tags for name in attrs if name.startswith("on")] == []


def test_hostile_text_is_shown_spelled_out(hostile: str) -> None:
    hostile.encode("utf-8")
    assert clean(HOSTILE) in Page(hostile).text
    assert "{{ 7*7 }}" in hostile
    assert (
        re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", hostile)
        == []
    )


def test_nothing_is_loaded_from_elsewhere(small: str) -> None:
    loads = [url for name in ("src", "href", "data", "action") for url in Page(small).all(name)]
    assert [url for url in loads if not url.startswith("#") and url != "data:,"] == []
    assert "@import" not in small
    assert re.findall(r"url\((?!#)", small) == []


def test_no_two_elements_share_an_id_and_every_reference_resolves(small: str) -> None:
    page = Page(small)
    ids = Counter(page.all("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    used = re.findall(r"url\(#([^)]+)\)", small)
    used += [url[1:] for url in page.all("href") if url.startswith("#")]
    used += page.all("aria-labelledby")
    assert [name for name in used if name not in ids] == []


@pytest.mark.slow
def test_a_large_run_stays_under_two_megabytes() -> None:
    families = ("linear", "concat", "linear-full", "mlp", "linear-lowrank", "sklearn")
    size = Size(layers=32, offsets=8, domains=("prose", "code", "chat"))
    run = results(replace(size, families=families, seeds=3, codelength=True))
    page = render(run, passages(size, Held(others=3000)))
    assert len(page.encode()) < 1_900_000
    assert re.search(r"kept for the first \d+ tokens of each passage", page)


@pytest.mark.slow
def test_a_very_large_run_stays_under_two_megabytes_and_says_what_it_left_out() -> None:
    size = Size(layers=80, offsets=8, domains=("prose", "code", "chat"))
    page = render(results(size), passages(size, Held(others=3000)))
    assert len(page.encode()) < 1_900_000
    assert "every second layer and the best ones are shown" in page
    assert "Left out to keep this page small: the maps of <bdi>lens</bdi>" in page
    assert 'id="curve-metric-nats"' not in page
    assert 'id="curve-metric-bits"' in page


def test_the_ceiling_is_drawn_only_where_the_positions_are_its_own(small: str) -> None:
    same, every = _figures(small, "marginal"), _figures(small, "all")
    assert len(same) == len(every) == 15
    assert all('class="o o2 level ceiling"' in figure for figure in same)
    assert not any(re.search("o[23] level (ceiling|estimate)", figure) for figure in every)


def test_a_loose_ceiling_is_hatched_and_called_an_estimate() -> None:
    run = results(Size(layers=2, offsets=3, domains=("prose",)))
    for row in run["marginal"]:
        row["tv_bound_mean"] = 0.1001 if row["offset"] == 3 else 0.1
    figures = _figures(render(run), "marginal")
    assert all("<pattern" in figure and "o3 level estimate" in figure for figure in figures)
    assert not any("o2 level estimate" in figure for figure in figures)
    assert "(an estimate)" in figures[0]


def test_a_tight_ceiling_is_not_hatched() -> None:
    run = results(Size(layers=2, offsets=3, domains=("prose",)))
    for row in run["marginal"]:
        row["tv_bound_mean"] = 0.02
    page = render(run)
    assert "<pattern" not in page
    assert "an estimate</li>" not in page


def test_without_marginalization_the_page_says_so_and_claims_nothing() -> None:
    page = render(results(Size(layers=2, offsets=2, marginal=False)))
    assert "Marginalization did not run." in page
    assert "marginalization did not run" in page
    assert "o2 level ceiling" not in page
    assert 'id="curve-positions-all"' not in page


def test_a_single_domain_is_shown_once() -> None:
    page = render(results(Size(layers=2, offsets=2, domains=("prose",), marginal=False)))
    assert len(_figures(page, "all")) == 5
    assert 'id="map-domain-0"' not in page


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_missing_value_is_a_dash_with_a_reason_and_never_zero(value: float | None) -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    for row in run["scores"]:
        if (row["readout"], row["layer"], row["offset"]) == ("linear", 1, 2):
            row.update(dict.fromkeys(("nats", "bits", "top1", "top5"), value))
    page = render(run)
    assert Page(page).cells["top1", "0", "0"][3] == "not scored"
    assert '<span class="none" title="not scored">' in page
    assert "nan" not in re.sub("<style.*?</script>", "", page, flags=re.DOTALL).lower()


def test_readouts_of_other_kinds_are_listed_with_what_they_see() -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    row = next(r for r in run["scores"] if (r["offset"], r["domain"]) == (2, "prose"))
    for name, layer in (("head:block", 1), ("head:native", None)):
        new = {"readout": name, "layer": layer, "blind": name != "head:native"}
        run["scores"].append(dict(row, **new))
    html = render(run)
    page = Page(html).text
    assert "head:block" in page
    assert html.count('<td class="doubt"><bdi>token-fed</bdi></td>') == 1
    assert "none were scored" not in page


def test_another_probe_takes_the_place_of_linear() -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    for row in run["scores"]:
        row["readout"] = "mlp" if row["readout"] == "linear" else row["readout"]
    figures = _figures(render(run), "all")
    assert len(figures) == 5
    assert all("mlp, 37,000 parameters, blind" in figure for figure in figures)


def test_a_run_without_probe_or_lens_is_still_a_page() -> None:
    run = results(Size(layers=2, offsets=2, marginal=False))
    run["scores"] = [row for row in run["scores"] if row["layer"] is None]
    run |= {"specialization": [], "verdict": [], "headlines": [], "checks": [], "warnings": []}
    page = render(run)
    assert "No probe was scored" in page
    assert "This run holds no verdict." in page


def test_a_failed_check_and_a_fit_that_did_not_converge_show() -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    run["checks"][0]["passed"] = False
    fits = [row for row in run["scores"] if row["readout"] == "linear" and row["domain"] == "prose"]
    fits[0]["converged"] = False
    page = render(run)
    assert '<td class="bad"><bdi>failed</bdi></td>' in page
    assert '<td class="bad"><bdi>no</bdi></td>' in page


def test_another_schema_is_refused() -> None:
    run = results(SMALL) | {"schema": "probekit.results/2"}
    with pytest.raises(RunError, match=r"reads results of schema 'probekit.results/1', got"):
        render(run)


def test_rendering_changes_neither_the_results_nor_matplotlib() -> None:
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    before, settings = copy.deepcopy(run), dict(mpl.rcParams)
    render(run)
    assert run == before
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == []


def test_importing_the_report_loads_no_drawing_library() -> None:
    code = "import sys, probekit.reports; print({'seaborn', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("count", [1, 4, 8, 16])
def test_every_offset_can_be_seen_on_either_page(count: int) -> None:
    light, dark = offset_colours(count)
    assert min(contrast(colour, LIGHT) for colour in light) >= 3
    assert min(contrast(colour, DARK) for colour in dark) >= 3
    assert len(set(light)) == len(set(dark)) == count


def test_every_number_of_the_map_can_be_read_on_its_colour() -> None:
    light, dark = map_steps()
    assert min(contrast(text, ground) for ground, text in (*light, *dark)) >= 4.5


def test_the_style_sheet_uses_the_page_colours_that_contrast_is_tested_against(small: str) -> None:
    assert re.findall(r"--page: (#\w+);", small) == [LIGHT, DARK]


def test_an_offset_has_one_colour_in_figures_map_and_tables(small: str) -> None:
    assert ".c2 { background: var(--o2); }" in small
    assert all("var(--o2)" in figure for figure in _figures(small, "all"))
    assert small.count("--o2:") == 2  # one light, one dark


def test_figures_have_a_text_that_says_what_they_show(small: str) -> None:
    labels = [a["aria-label"] or "" for tag, a in Page(small).tags if a.get("role") == "img"]
    assert len(labels) == 32
    assert all(
        re.search(r"t\+3: from [\d.\N{MINUS SIGN}]+ at layer 0", text) for text in labels[:30]
    )
    assert "nats at layer 1" in labels[30]


def test_a_figure_draws_each_value_at_its_place() -> None:
    curve = Curve("probe", 1, (0, 1, 2), (0.0, 10.0, 5.0), (0.0, 9.0, 4.0), (1.0, 10.0, 6.0))
    level = Level("ceiling", 1, 10.0, 9.0, 11.0)
    svg = inline(partial(curve_figure, Panel("y", [curve], [level], (0.0, 10.0))), "a-")
    found = re.search(r'class="o o1 probe"><path d="M(\S+) (\S+)L(\S+) (\S+)L(\S+) (\S+)"', svg)
    assert found is not None
    x0, y0, x1, y1, x2, y2 = map(float, found.groups())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y2) == pytest.approx((y0 - y1) / 2, abs=0.2)
    assert f"L301.4 {y1:g}" in svg  # the ceiling is as high as the best layer
    assert not re.search("#0a0b|#010203", svg)


def test_a_gap_in_a_curve_is_a_gap() -> None:
    nan = float("nan")
    curve = Curve("probe", 1, (0, 1, 2, 3, 4), (1.0, 2.0, nan, 3.0, 4.0), (nan,) * 5, (nan,) * 5)
    svg = inline(partial(curve_figure, Panel("y", [curve], [], (0.0, 10.0))), "a-")
    path = re.search(r'class="o o1 probe"><path d="([^"]*)"', svg)
    assert path is not None
    assert path[1].count("M") == 2
    assert "band" not in svg


def test_several_seeds_do_not_mix() -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    other: list[dict[str, Any]] = [dict(row, seed=1, top1=0.777) for row in run["scores"]]
    run["scores"] = [*other, *run["scores"]]
    assert not any(text.startswith("77.7") for text in Page(render(run)).cells["top1", "0", "0"])


def _scored(rows: list[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    """Return the rows of all positions, and those that were scored on no others."""
    own = [row for row in rows if row["split"] == split]
    return [row for row in own if row["positions"] == "all" or "marginal" in row["readout"]]


def test_the_table_of_readouts_holds_test_rows_only() -> None:
    run = results(SMALL)
    assert _scored(run["scores"], "validation")
    tables, shortened = readout_tables(index(run))
    assert sum(len(table.rows) for table in tables) == len(_scored(run["scores"], "test"))
    assert not shortened


def test_rows_that_are_not_shown_do_not_shorten_the_table_of_readouts() -> None:
    run = results(Size(layers=12, offsets=4))
    shown, hidden = (len(_scored(run["scores"], split)) for split in ("test", "validation"))
    assert shown < FEW_ROWS < shown + hidden
    assert not readout_tables(index(run))[1]


def _without_shares(site: str = "resid_post", adapted: bool = False) -> dict[str, Any]:
    run = results(Size(layers=2, offsets=2, domains=("prose",)))
    for row in run["specialization"]:
        row["recovered"] = row["recovered_adapted"] = None
    for row in run["scores"]:
        row["site"] = site if row["site"] else None
    if not adapted:
        run["scores"] = [r for r in run["scores"] if r["readout"] != "marginal-adapted"]
    return run


def _reasons(run: dict[str, Any]) -> list[str]:
    """Return why the recovered shares of t+2 are missing."""
    return [cell.missing for cell in specialization_table(index(run)).rows[1][5:7]]


def test_a_missing_share_of_the_ceiling_has_its_own_reason() -> None:
    small = "adaptation is small: not needed"
    capped, unknown = _without_shares(), _without_shares()
    capped["model"]["softcap"] = 30.0
    for row in unknown["specialization"]:
        row["adaptation_nats"] = None
    assert _reasons(_without_shares()) == [NO_ROOM, small]
    assert _reasons(capped) == [NO_ROOM, NOT_HERE]
    assert _reasons(_without_shares("attn_out")) == [NO_ROOM, NOT_HERE]
    assert _reasons(unknown) == [NO_ROOM, "adaptation is not known"]
    assert _reasons(_without_shares(adapted=True)) == [NO_ROOM, NO_ROOM]
    assert _reasons(_without_shares() | {"specialization": []}) == ["not computed"] * 2


def test_adaptation_at_another_site_is_missing_because_of_the_site() -> None:
    run = _without_shares("mlp_out")
    for row in run["specialization"]:
        row["adaptation_nats"] = None
    assert next_token_table(index(run)).rows[0][2].missing == NOT_HERE


def test_a_score_of_zero_is_a_score() -> None:
    run = results(Size(layers=2, offsets=1, domains=("prose",)))
    for row in run["scores"]:
        if (row["readout"], row["layer"]) == ("linear", 0):
            row["bits"] = 0.0
    message = curve_message(index(run), METRICS["bits"], ("prose", "all"))
    assert "t+1: from 0.00 at layer 0 to" in message


def test_the_adapted_ceiling_has_its_own_certificate_beneath() -> None:
    run = results(Size(layers=2, offsets=3, domains=("prose",)))
    for row in run["marginal"]:
        row["tv_bound_mean"] = 0.3 if row["readout"] == "marginal-adapted" else 0.02
    run["marginal"].reverse()
    indexed = index(run)
    shown = [(row[0].text, row[2].text, row[-1].text) for row in marginal_table(indexed).rows]
    assert shown == [
        ("t+2", "the model's", "ceiling"),
        ("t+3", "the model's", "ceiling"),
        ("t+2", "adapted", "estimate"),
        ("t+3", "adapted", "estimate"),
    ]
    assert not indexed.is_estimate(2, "prose")
    for row in run["marginal"]:
        del row["readout"]  # a row that does not say is of the model itself
    assert [row[2].text for row in marginal_table(index(run)).rows] == ["the model's"] * 4

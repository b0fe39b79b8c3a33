"""The report: all of the run is in it, nothing of the run acts in it, nothing is made up."""

import ast
import copy
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html import unescape
from typing import Any

import pandas as pd
import pytest

from probekit.errors import RunError
from probekit.reports import render
from probekit.reports.analysis.page_budget import MOST_PAGE
from probekit.reports.components.visible_text import clean
from support.pages import shared_pages
from support.pages.parsed_pages import Page
from support.pages.shared_pages import SMALL
from support.pages.synthetic_passages import Held, passages
from support.pages.synthetic_run import HOSTILE, Size, results

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
    "classes",
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


@pytest.fixture(scope="module")
def small() -> str:
    return shared_pages.small_page()


@pytest.fixture(scope="module")
def hostile() -> str:
    return render(results(Size(layers=2, offsets=2, hostile=True)))


def test_every_section_is_there_and_the_verdict_comes_first(small: str) -> None:
    ids = [attrs["id"] for tag, attrs in Page(small).tags if tag == "section"]
    assert ids == SECTIONS


def test_verdict_offsets_warnings_and_command_are_shown(small: str) -> None:
    run, text = results(SMALL), Page(small).text
    wanted = [*run["verdict"], run["warnings"][0]["message"], run["run"]["command"]]
    wanted += [row[name] for row in run["offsets"] for name in ("best", "read", "late_loss")]
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
def test_of_many_offsets_long_tables_show_some_and_the_map_and_the_readout_gap_all() -> None:
    size = Size(layers=7, offsets=32, seeds=0, families=("linear",))
    html = render(results(size), passages(size, Held(tokens=150)))
    assert len(html.encode()) < MOST_PAGE
    assert "offsets t+1 to t+32 ·" in html
    told = "Shown are t+1, t+2, t+3, t+4, t+8, t+16 and t+32; all offsets are in results.json."
    assert html.count(told) == 4
    for name, offsets in (("map", 32), ("specialization", 32), ("domains", 7), ("sequences", 6)):
        part = html.split(f'id="h-{name}"')[1].split("<h2 ")[0]
        assert len({*re.findall(r">(t\+\d+)<", part)}) == offsets, name


@pytest.mark.slow
def test_a_very_large_run_stays_under_two_megabytes_and_says_what_it_left_out() -> None:
    size = Size(layers=80, offsets=8, domains=("prose", "code", "chat"))
    page = render(results(size), passages(size, Held(others=3000)))
    assert len(page.encode()) < 1_900_000
    assert "every second layer and the best ones are shown" in page
    assert "Left out to keep this page small: the maps of <bdi>lens</bdi>" in page
    assert 'id="curve-metric-nats"' not in page
    assert 'id="curve-metric-bits"' in page


def test_without_marginalization_the_page_says_so_and_claims_nothing() -> None:
    page = render(results(Size(layers=2, offsets=2, marginal=False)))
    assert "Marginalization did not run." in page
    assert "marginalization did not run" in page
    assert "o2 level ceiling" not in page
    assert 'id="curve-positions-all"' not in page


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


@pytest.mark.usefixtures("undrawn")
def test_readouts_of_other_kinds_are_listed_with_what_they_see() -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    row = next(r for r in run["scores"] if (r["offset"], r["domain"]) == (2, "prose"))
    for name, layer in (("head:block", 1), ("head:native", None)):
        new = {"readout": name, "layer": layer, "blind": name != "head:native"}
        run["scores"].append(dict(row, **new))
    html = render(run)
    page = Page(html).text
    assert "head:block" in page
    assert html.count('<td class="doubt">token-fed</td>') == 1
    assert "none were scored" not in page


def test_a_run_without_probe_or_lens_is_still_a_page() -> None:
    run = results(Size(layers=2, offsets=2, marginal=False))
    run["scores"] = [row for row in run["scores"] if row["layer"] is None]
    run |= {"specialization": [], "verdict": [], "offsets": [], "checks": [], "warnings": []}
    page = render(run)
    assert "No probe was scored" in page
    assert "This report holds no verdict." in page


@pytest.mark.usefixtures("undrawn")
def test_a_failed_check_and_a_fit_that_did_not_converge_show() -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    run["checks"][0]["passed"] = False
    fits = [row for row in run["scores"] if row["readout"] == "linear" and row["domain"] == "prose"]
    fits[0]["converged"] = False
    page = render(run)
    assert '<td class="bad">failed</td>' in page
    assert '<td class="bad">no</td>' in page


def test_another_schema_is_refused() -> None:
    run = results(SMALL) | {"schema": "probekit.results/0"}
    with pytest.raises(RunError, match=r"reads results of schema 'probekit.results/4', got"):
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


@pytest.mark.usefixtures("undrawn")
def test_several_seeds_do_not_mix() -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    other: list[dict[str, Any]] = [dict(row, seed=1, top1=0.777) for row in run["scores"]]
    run["scores"] = [*other, *run["scores"]]
    assert not any(text.startswith("77.7") for text in Page(render(run)).cells["top1", "0", "0"])


def test_the_query_of_a_number_finds_its_row() -> None:
    [query] = re.findall(r"run\.scores\.query\((.*)\)<", unescape(shared_pages.small_page()))
    rows = pd.DataFrame(results(shared_pages.SMALL)["scores"]).query(ast.literal_eval(query))
    assert rows[["readout", "offset", "split"]].values.tolist() == [["linear", 3, "test"]]

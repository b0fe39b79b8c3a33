"""The report's controls, and what it says of all it was asked for: each is named for what it is."""

import re
from html import escape
from typing import Any

import pytest

from probekit.reports import render
from probekit.reports.analysis.contrasts import FEW_ROWS, control_table
from probekit.reports.analysis.curves import curve_figures
from probekit.reports.analysis.layer_maps import build_maps
from probekit.reports.analysis.not_run import not_run
from probekit.reports.analysis.rows import index
from probekit.reports.analysis.tables import readout_tables
from probekit.reports.components.numbers import DASH
from probekit.reports.components.tables import Table
from probekit.reports.components.visible_text import clean
from probekit.scoring.rates import MUCH_ADAPTATION_NATS, ROUGH_NATS
from support.pages.synthetic_run import HOSTILE, Size, results

ONE: dict[str, Any] = {"layers": 2, "offsets": 3, "domains": ("prose",)}
MINUS = "\N{MINUS SIGN}"


def run_of(**changes: Any) -> dict[str, Any]:
    return results(Size(**(ONE | changes)))


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    return found[0] if found else ""


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def shown(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", MINUS)


@pytest.mark.usefixtures("undrawn")
def test_controls_are_shown_with_numbers_and_intervals() -> None:
    run = run_of()
    table, shortened = control_table(index(run))
    wanted = [row for row in run["controls"] if row["domain"] == "prose"]
    bits = ("contextual_bits", "overfit_bits", "random_bits", "bits_over_random")
    assert texts(table) == [
        ["t+2", "prose", str(row["layer"])]
        + [DASH if row[name] is None else shown(row[name], 3) for name in bits]
        for row in wanted
    ]
    low, high = (wanted[0][f"contextual_bits_{end}"] for end in ("low", "high"))
    assert table.rows[0][3].interval == f"{shown(low, 3)} to {shown(high, 3)}"
    page = section(render(run), "controls")
    assert "Of the training positions 5.0 % at most have a token that occurs once" in page
    assert not shortened
    assert [cell.seeds for row in table.rows for cell in row if cell.seeds] == []
    assert "seed" not in table.caption


@pytest.mark.usefixtures("undrawn")
def test_other_seeds_are_a_band_named_as_such() -> None:
    run = run_of(seeds=3)
    run["controls"].reverse()  # the run's own seed comes first wherever its rows are
    table, _ = control_table(index(run))
    rows = [row for row in run["controls"] if (row["layer"], row["domain"]) == (1, "prose")]
    others = sorted(row["contextual_bits"] for row in rows if row["seed"] != 0)
    own = next(row for row in rows if row["seed"] == 0)
    assert len(table.rows) == 2
    cell = next(row for row in table.rows if row[2].text == "1")[3]
    assert cell.text == shown(own["contextual_bits"], 3)
    assert cell.seeds == f"other seeds {shown(others[0], 3)} to {shown(others[1], 3)}"
    assert table.rows[1][6].seeds == ""  # the draws of blocks are in the interval
    assert "mean of 3 draws" in section(render(run), "controls")
    assert "seed 0, in italics other seeds 1, 2, lowest to highest" in table.caption
    assert f'<small class="seeds">{cell.seeds}</small>' in section(render(run), "controls")


def test_a_single_other_seed_is_no_band() -> None:
    run = run_of(seeds=2)
    table, _ = control_table(index(run))
    rows = [row for row in run["controls"] if row["seed"] == 1 and row["domain"] == "prose"]
    assert table.rows[0][3].seeds == f"other seed {shown(rows[0]['contextual_bits'], 3)}"
    assert "other seed 1" in table.caption


def test_many_controls_keep_the_layers_that_matter() -> None:
    run = run_of(layers=6)
    first = run["controls"][0]
    run["controls"] = [
        first | {"layer": layer, "offset": offset, "domain": "prose"}
        for layer in range(7)
        for offset in range(1, FEW_ROWS // 7 + 2)
    ]
    table, shortened = control_table(index(run))
    assert shortened
    assert {row[2].text for row in table.rows if row[0].text == "t+2"} == {"0", "4", "6"}


def test_without_controls_the_page_says_so_and_how_to_run_them() -> None:
    page = render(run_of(seeds=0))
    assert "The controls were not run." in section(page, "controls")
    assert "<code>--controls default</code>" in section(page, "controls")
    assert "The controls: permuted targets" in section(page, "not-run")
    assert "untrained blocks</li>" not in page
    assert not re.search('class="o o2 (random|control)', page)


@pytest.mark.parametrize("target", ["text", "model"])
def test_a_control_is_never_the_probe_and_never_in_a_map(target: str) -> None:
    run = run_of(target=target, seeds=2)
    run["scores"].sort(key=lambda row: row["readout"] not in ("control", "random"))
    indexed = index(run)
    assert indexed.probe == "linear"
    assert indexed.target == target
    assert build_maps(indexed).readouts == ["linear", "lens"]
    assert not indexed.has("control")
    assert not indexed.has("random")
    page = render(run)
    shown_in = section(page, "map") + section(page, "domains") + section(page, "specialization")
    assert not re.search(r">(control|random)[,<]", shown_in)


def test_the_target_of_the_run_is_the_one_that_is_shown() -> None:
    run = run_of(target="model", marginal=False)
    run["scores"] += [dict(row, target="text", top1=0.777) for row in run["scores"]]
    run["scores"].reverse()
    row = index(run).score("linear", 1, 2, ("prose", "all"))
    assert (row["target"], row["top1"] == 0.777) == ("model", False)


@pytest.mark.usefixtures("undrawn")
def test_the_head_and_several_tokens_say_what_is_predicted() -> None:
    model, text = render(run_of(target="model")), render(run_of())
    head = "Target: the model's own greedy continuation."
    assert head in model.partition("<main>")[0]
    assert head not in text
    joint = "greedy verification would accept t+2 … t+k"
    assert joint in section(model, "sequences")
    assert joint not in section(text, "sequences")
    assert "the token of <strong>the text</strong>" in section(text, "sequences")


def test_untrained_blocks_are_drawn_where_they_ran_and_the_control_is_not() -> None:
    run = run_of(marginal=False)
    figures = {figure.group: figure.svg for figure in curve_figures(index(run))}
    assert all('class="o o2 random"' in svg for svg in figures.values())
    assert not any("control" in svg for svg in figures.values())
    assert not any("o1 random" in svg or "random band" in svg for svg in figures.values())
    page = render(run)
    assert "probe behind untrained blocks</li>" in page
    assert "the probe behind untrained blocks" in page


def test_the_band_of_a_control_reaches_from_its_lowest_to_its_highest_seed() -> None:
    run = run_of(marginal=False, seeds=3)
    for row in run["scores"]:
        if row["readout"] == "random":
            row["top1"] = (0.10, 0.05, 0.20)[row["seed"]]
    svg = next(f.svg for f in curve_figures(index(run)) if f.group == "top1")
    band = re.search(r'class="o o2 random band"><path d="([^"]*)"', svg)
    line = re.search(r'class="o o2 random"><path d="M\S+ ([\d.]+)L', svg)
    assert band is not None
    assert line is not None
    ys = sorted({float(y) for y in re.findall(r"[ML]\S+? ([\d.]+)", band[1])})
    assert len(ys) == 2  # the higher the accuracy, the lower the coordinate
    assert (float(line[1]) - ys[0]) / (ys[1] - float(line[1])) == pytest.approx(2, abs=0.05)


@pytest.mark.usefixtures("undrawn")
def test_bits_given_the_token_are_a_metric_where_they_were_measured() -> None:
    run = run_of()
    assert 'id="map-metric-bits_given_token"' in render(run)
    for row in run["scores"]:
        row.pop("bits_given_token")
    page = render(run)
    assert "metric-bits_given_token" not in page
    assert "Bits given the token" not in section(page, "readouts")


def test_the_table_of_readouts_says_why_a_control_has_no_bits_and_which_seed_is_which() -> None:
    (table,), _ = readout_tables(index(run_of(seeds=2)))
    at, seed = table.head.index("Bits"), table.head.index("Seed")
    controls = [row for row in table.rows if row[0].text == "control"]
    assert {row[at].missing for row in controls} == {"its targets are not the text's"}
    assert {row[seed].text for row in controls} == {"0", "1"}
    (table,), _ = readout_tables(index(run_of()))
    assert "Seed" not in table.head


def test_what_was_not_run_follows_from_the_run() -> None:
    said = " ".join(not_run(index(run_of())))
    assert "The controls at offsets other than 2 (--controls all)." in said
    assert "by further seeds (--seeds)" in said
    assert "(--target model)" in said
    assert "Marginalization" not in said
    every = run_of(seeds=2, target="model", codelength=True)
    every["controls"] += [row | {"offset": k} for row in every["controls"] for k in (1, 3)]
    said = " ".join(not_run(index(every)))
    assert not re.search("controls|codelength|--target", said)
    few = run_of(marginal=False)
    few["scores"] = [row for row in few["scores"] if row["layer"] != 1]
    said = " ".join(not_run(index(few)))
    assert "Layers other than 0, 2 (--layers)." in said
    assert "Marginalization: without it there is no ceiling" in said


@pytest.mark.usefixtures("undrawn")
def test_thresholds_in_words_are_those_that_were_applied() -> None:
    run = run_of()
    run["scores"] = [row for row in run["scores"] if row["readout"] != "marginal-adapted"]
    page = render(run)
    assert page.count(f"standard error above {ROUGH_NATS} nats.") == 1
    assert f"standard error exceeds {ROUGH_NATS} nats the ceiling is an estimate" in page
    assert f"exceeds {MUCH_ADAPTATION_NATS} nats" in section(page, "not-run")


@pytest.mark.usefixtures("undrawn")
def test_hostile_names_are_spelled_out_in_every_section() -> None:
    page = render(results(Size(layers=2, offsets=2, hostile=True, seeds=2)))
    wanted = escape(clean(HOSTILE)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    parts = {name: section(page, name) for name in ("controls", "families", "sequences")}
    assert all(wanted in part for part in parts.values())
    assert f"head:{wanted}" in parts["families"]
    assert f"head:{wanted}" in section(page, "codelength")

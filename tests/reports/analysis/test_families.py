"""The report's probe families, several tokens and codelength: each is named for what it is."""

import re
from typing import Any

import pytest

from probekit.readout import FURTHER, JACOBIAN_LENS
from probekit.reports import render
from probekit.reports.analysis.contrasts import family_tables, sequence_tables
from probekit.reports.analysis.layer_maps import build_maps
from probekit.reports.analysis.learning import codelength_table
from probekit.reports.analysis.rows import index
from probekit.reports.analysis.tables import comparison_tables, readout_tables
from probekit.reports.components.tables import Table
from support.pages.synthetic_run import Size, results

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
def test_a_run_of_one_family_has_no_section_of_families() -> None:
    page = render(run_of(families=("linear",)))
    assert section(page, "families") == ""
    assert 'href="#families"' not in page
    assert "Other probe families: linear-full, linear-lowrank, concat" in section(page, "not-run")


def test_further_readouts_stand_beside_the_probe_at_their_best_layer() -> None:
    results = run_of(families=("linear", *FURTHER), layers=3)
    run = index(results)
    assert (run.probe, run.further()) == ("linear", FURTHER)
    table = comparison_tables(run)[0]
    assert list(table.head)[-len(FURTHER) :] == [f"{name}, best layer" for name in FURTHER]
    best = min(
        (row["nats"], row["layer"])
        for row in results["scores"]
        if (row["readout"], row["split"], row["offset"], row["domain"])
        == (JACOBIAN_LENS, "validation", 2, "prose")
    )
    shown = run.score(JACOBIAN_LENS, best[1], 2, ("prose", "marginal"))["top1"]
    assert texts(table)[1][-len(FURTHER)].startswith(f"{100 * shown:.1f}")
    page = render(results)
    panels = page.count('class="o o2 level skip-bigram')
    assert page.count('class="o o2 further') == len(FURTHER) * panels
    assert '<i class="key s3"></i>Jacobian lens' in section(page, "curves")
    assert "<dt>Jacobian lens</dt>" in section(page, "reading")


@pytest.mark.usefixtures("undrawn")
def test_families_are_compared_at_their_best_layers() -> None:
    run = run_of(families=("linear", "concat", "linear-full"))
    (table,) = family_tables(index(run))
    rows = [row for row in run["families"] if row["domain"] == "prose" and row["offset"] == 2]
    assert [row[:4] for row in texts(table) if row[0] == "t+2"] == [
        ["t+2", "linear", "37,000", str(rows[0]["layer"])],
        ["t+2", "concat", "258,000", "all"],
        ["t+2", "linear-full", "395,000", str(rows[2]["layer"])],
    ]
    assert [row[-1] for row in texts(table) if row[0] == "t+2"] == [
        "reference",
        *(shown(row["bits_over_linear"], 3) for row in rows[1:]),
    ]
    words = section(render(run), "families")
    assert "row space of the unembedding" in words
    assert "<code>concat</code> reads all layers" in words
    assert "<code>mlp</code>" not in words


def test_a_family_fitted_with_several_seeds_shows_them() -> None:
    run = run_of(families=("linear", "linear-full"))
    run["families"] += [
        row | {"seed": seed, "nats": row["nats"] + seed}
        for row in run["families"]
        for seed in (1, 2)
        if row["readout"] == "linear-full"
    ]
    (table,) = family_tables(index(run))
    full = {"readout": "linear-full", "offset": 1, "domain": "prose", "seed": 0}
    nats = next(row["nats"] for row in run["families"] if full.items() <= row.items())
    assert [row[5].seeds for row in table.rows[:2]] == [
        "",
        f"other seeds {shown(nats + 1, 3)} to {shown(nats + 2, 3)}",
    ]


def test_a_probe_of_all_layers_has_a_row_beneath_the_map() -> None:
    with_it, without = (
        build_maps(index(run_of(families=families))).maps[0]
        for families in (("linear", "concat"), ("linear",))
    )
    assert [name for name, _ in with_it.floors] == ["concat", "unigram", "skip-bigram", "model"]
    assert [name for name, _ in without.floors] == ["unigram", "skip-bigram", "model"]


def test_several_tokens_are_shown_for_best_layers_floor_and_ceiling() -> None:
    run = run_of()
    (table,) = sequence_tables(index(run))
    names = [row[1] for row in texts(table) if row[0] == "t+3"]
    best = index(run).special(3, "prose")["best_layer"]
    assert names == [
        f"linear, layer {best}",
        "concat, all layers",
        "skip-bigram",
        "marginal",
        "marginal-adapted",
    ]
    assert {row[0] for row in texts(table)} == {"t+2", "t+3"}
    key = {"readout": "concat", "offset": 3, "domain": "prose"}
    row = next(row for row in run["sequences"] if key.items() <= row.items())
    assert [row["top1"], row["joint"], row["conditional"]] != [row["top1"]] * 3
    found = {tuple(row[:2]): row[2:] for row in texts(table)}
    assert found["t+3", "concat, all layers"] == [
        *(shown(100 * row[name], 1) for name in ("top1", "joint", "conditional")),
        shown(row["accepted"], 2),
        shown(row["joint_nats"], 3),
        "\N{EN DASH}",
    ]
    assert [name.partition(":")[0] for name in table.head[2:5]] == [
        "Unconditional",
        "Joint",
        "Conditional",
    ]


def test_what_was_never_right_before_says_why() -> None:
    run = run_of()
    for row in run["sequences"]:
        if row["readout"] == "skip-bigram":
            row["conditional"] = None
    (table,) = sequence_tables(index(run))
    rows = {row[1].text: row for row in table.rows if row[0].text == "t+3"}
    assert rows["skip-bigram"][4].missing == "never right at all offsets before"


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_next_tokens_alone_has_no_several_tokens() -> None:
    page = render(run_of(offsets=1))
    assert "Not measured: this run has no offset past t+1." in section(page, "sequences")
    assert "Several tokens at once" in section(page, "not-run")


@pytest.mark.usefixtures("undrawn")
def test_codelength_is_shown_where_it_was_measured() -> None:
    run = run_of(codelength=True)
    table, shortened = codelength_table(index(run))
    first = run["codelength"][0]
    assert not shortened
    assert texts(table)[0] == [
        "t+1",
        "0",
        "linear",
        "19,800",
        "8.100",
        shown(first["bits_per_target"], 3),
        shown(first["compression_to_unigram"], 2),
        shown(first["compression"], 2),
    ]
    assert section(render(run), "codelength")
    page = render(run_of())
    assert section(page, "codelength") == ""
    assert "(--codelength)" in section(page, "not-run")


def test_a_long_table_of_readouts_keeps_one_seed_and_the_best_layer_of_further_families() -> None:
    run = run_of(layers=20, seeds=2, families=("linear", "linear-full"), domains=("prose", "code"))
    tables, shortened = readout_tables(index(run))
    assert shortened
    assert "Seed" not in tables[0].head
    best = {
        (f"t+{row['offset']}", str(row["layer"]))
        for row in run["families"]
        if (row["readout"], row["domain"]) == ("linear-full", "all")
    }
    rows = [[cell.text for cell in row] for row in tables[0].rows]
    assert {(row[1], row[2]) for row in rows if row[0] == "linear-full"} == best

"""The tables of the report: which rows they hold, and why a number is missing."""

from typing import Any

from probekit.reports.analysis.rows import index
from probekit.reports.analysis.specialization import (
    KEPT,
    NO_ROOM,
    NOT_HERE,
    next_token_table,
    specialization_table,
)
from probekit.reports.analysis.tables import (
    FEW_ROWS,
    marginal_table,
    readout_tables,
)
from support.pages.shared_pages import SMALL
from support.pages.synthetic_run import Size, results


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
    return [cell.missing for cell in specialization_table(index(run)).rows[1][10:12]]


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


def test_an_output_that_validation_kept_is_no_measured_adaptation() -> None:
    run = _without_shares()
    for row in run["specialization"]:
        row.update(adaptation_nats=0.0, adaptation_nats_low=0.0, adaptation_nats_high=0.0)
    assert next_token_table(index(run)).rows[0][2].text == KEPT


def test_the_adapted_ceiling_has_its_own_certificate_beneath() -> None:
    run = results(Size(layers=2, offsets=3, domains=("prose",)))
    for row in run["marginal"]:
        row["nats_error"] = 0.3 if row["readout"] == "marginal-adapted" else 0.02
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

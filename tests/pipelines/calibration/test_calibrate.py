"""The instrument against known answers: the table, and what counts as agreement."""

import pytest
from typer.testing import CliRunner

from probekit.pipelines.calibration.calibrate import calibrate, lines, most_outside, passed
from probekit.pipelines.calibration.result import CalibrationResult
from support.paths import ROOT

PAGE = ROOT / "docs" / "accuracy.md"


def held(exact: float, low: float, high: float, slack: float = 0.0) -> CalibrationResult:
    return CalibrationResult("text", "number", 2, (low + high) / 2, exact, low, high, slack=slack)


def allowed(measured: float, most: float) -> CalibrationResult:
    return CalibrationResult("text", "error", None, measured, 0.0, 0.0, most, bounded=True)


def test_an_interval_agrees_that_holds_the_exact_value() -> None:
    assert held(1.0, 0.9, 1.1).agrees
    assert not held(1.2, 0.9, 1.1).agrees
    assert held(1.2, 0.9, 1.1, slack=0.1).agrees


def test_a_bound_agrees_that_holds_the_measured_value() -> None:
    assert allowed(1e-6, 1e-5).agrees
    assert not allowed(1e-4, 1e-5).agrees


def test_a_few_intervals_may_miss_and_no_bound_may() -> None:
    good, bad = [held(1.0, 0.9, 1.1)], [held(2.0, 0.9, 1.1)]
    assert most_outside(40) == 7  # P(Binomial(40, 0.05) > 7) < 0.001 <= P(> 6)
    assert passed(33 * good + 7 * bad)
    assert not passed(32 * good + 8 * bad)
    assert not passed([*(40 * good), allowed(1e-4, 1e-5)])


def test_the_terminal_says_what_is_outside_and_what_failed() -> None:
    table = lines([held(1.0, 0.9, 1.1), held(2.0, 0.9, 1.1), allowed(1e-4, 1e-5)])
    assert [line.split()[0] for line in table[1:-1]] == ["ok", "outside", "FAILED"]
    assert table[-1].startswith("1 of 2 intervals of 95 % hold the exact value")


@pytest.mark.parametrize(("measured", "code"), [(1e-6, 0), (1e-4, 1)])
def test_the_command_fails_where_the_instrument_does(
    monkeypatch: pytest.MonkeyPatch, measured: float, code: int
) -> None:
    from probekit.cli.main import app

    monkeypatch.setattr(f"{calibrate.__module__}.calibrate", lambda: [allowed(measured, 1e-5)])
    result = CliRunner().invoke(app, ["doctor", "--calibrate"])
    assert result.exit_code == code
    assert "error" in result.output


@pytest.mark.slow
def test_the_instrument_gives_the_exact_values_and_the_page_lists_them() -> None:
    results = calibrate()
    assert passed(results)
    page = PAGE.read_text(encoding="utf-8")
    for row in results:
        where = "" if row.offset is None else f"t+{row.offset}"
        assert f"| {row.text} | {row.quantity} | {where} |" in page

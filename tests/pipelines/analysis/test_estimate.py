"""What an analysis is expected to take: every part counted, by what takes it."""

from typing import Any

import pytest

from probekit.pipelines.analysis import estimate
from probekit.runs import plan
from probekit.runs.setup import Setup, load_model, prepare
from probekit.settings import Settings


@pytest.fixture(scope="module")
def setup(asked: dict[str, Any]) -> Setup:
    settings = Settings.from_mapping(asked)
    return prepare(load_model(settings), settings)


def of(setup: Setup, asked: dict[str, Any], **more: Any) -> dict[str, float]:
    return estimate.seconds(setup, Settings.from_mapping(asked | more))


def test_parts_are_counted_by_what_takes_them(
    setup: Setup, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "cell_seconds", lambda *_: 1.0)
    monkeypatch.setattr(plan, "seconds_each", lambda *_: 0.0)
    monkeypatch.setattr(estimate, "_token_seconds", lambda _: 0.001)
    found = of(setup, asked, offsets=3, controls="none")
    # Layers 0 to 2 by three offsets; floor and best at two of them, with a quarter and a half.
    assert found["probes"] == pytest.approx(9)
    assert found["learning"] == pytest.approx(2 * 2 * 0.75)
    assert found["controls"] == 0
    positions = {k: of(setup, asked, marginal_positions=k)["marginalization"] for k in (10, 20)}
    # What follows each of the tokens alone is taken once.
    alone = 0.001 * setup.anatomy.vocab_size
    assert positions[20] - alone == pytest.approx(2 * (positions[10] - alone))
    assert not {"marginalization", "adapted output", "passages"} & set(
        of(setup, asked, marginal="off")
    )
    # Each of 16 rows from 4 prompts of 32 tokens.
    assert "Jacobian lens" not in found
    lens = of(setup, asked, readout=["jacobian-lens"])["Jacobian lens"]
    assert lens == pytest.approx(16 * 4 * 32 * 0.0011)
    # The scored text as often as there are offsets; 24 positions, run at layers 0 to 2 and
    # twice without: BOS and nine words of a prompt, and the tokens before the third offset.
    names = ["mask-token", "transplant"]
    found = of(setup, asked, readout=names, offsets=3)
    scored = sum(setup.blocks[part].token_ids.numel() for part in ("validation", "test"))
    assert found["mask tokens"] == pytest.approx(scored * 3 * 0.001)
    assert found["transplants"] == pytest.approx(24 * 5 * (10 + 2) * 0.001)
    assert "adapted output" not in of(setup, asked, site="attn_out")
    # Layers 1 and 2 by two offsets, at two sites more.
    sites = ["resid_post", "attn_out", "mlp_out"]
    assert of(setup, asked, offsets=2, site=sites)["further sites"] == pytest.approx(8)
    assert of(setup, asked, controls="all")["controls"] > of(setup, asked)["controls"] > 0


def test_a_long_run_is_told_what_would_halve_its_longest_part() -> None:
    parts = {"probes": 100.0, "controls": 0.0, "scores": 50.0, "marginalization": 400.0}
    line = estimate.line(parts)
    assert line.startswith("About 9 minutes: probes 1.7, controls 0.0, scores 0.8,")
    assert line.endswith("; half the --marginal-positions would halve the marginalization.")
    more = estimate.line(parts | {"adapted output": 150.0})
    assert more.startswith("About 9 minutes")
    assert "marginalization 7; 3 more if the text is not what the model expects; half" in more
    assert "halve" not in estimate.line(dict.fromkeys(parts, 20.0))

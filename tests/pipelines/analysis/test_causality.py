"""The causal check of a run: its rows, its sentences, what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch

import probekit
from probekit.causal.subspaces import Layer
from probekit.errors import SettingsError
from probekit.pipelines.analysis.causality import sentences

QUICK = {"causal": "all", "controls": "none", "marginal": "off"}


@pytest.mark.slow
def test_every_layer_before_the_last_is_checked_and_the_page_says_so(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    run = probekit.analyze(**asked | QUICK, output=tmp_path)
    rows, n_layers = run.results["causal"], run.results["model"]["n_layers"]
    horizon = run.settings.offsets
    first = [row for row in rows if row["domain"] == rows[0]["domain"]]
    cells = [(row["layer"], row["offset"], row["scored_offset"]) for row in first]
    every = [
        (layer, offset, scored)
        for offset in range(2, horizon + 1)
        for layer in range(n_layers)
        for scored in range(1, offset + 1)
    ]
    assert sorted(cells) == sorted(every)
    for row in first:
        dearer = max(row["random_nats"], row["alike_nats"])
        assert row["beyond_nats"] == pytest.approx(row["nats"] - dearer)
        rival = next(s for s in run.results["specialization"] if s["offset"] == row["offset"])
        assert row["best"] == (row["layer"] == rival["late_rival"])
    assert "Used or only readable" in run.report.read_text(encoding="utf-8")
    assert set(sentences(rows)) < set(run.results["verdict"])


@pytest.mark.slow
def test_a_probe_that_reads_nothing_has_no_row_and_the_run_ends(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads_nothing(self: Layer, _: object, __: object) -> torch.Tensor:
        return torch.zeros(len(self.mean), 0, dtype=torch.float64)

    monkeypatch.setattr(Layer, "read_beyond", reads_nothing)
    run = probekit.analyze(**asked | QUICK, output=tmp_path)
    assert run.results["causal"] == []
    assert 'id="causal"' not in run.report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "asked_for", [{"offsets": 1}, {"target": "model"}, {"site": "mlp_out"}], ids=str
)
def test_what_the_check_is_not_made_for_is_refused_before_anything_is_measured(
    asked: dict[str, Any], tmp_path: Path, asked_for: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match="resid_post and scores tokens of the text"):
        probekit.analyze(**asked | QUICK | asked_for, output=tmp_path)
    assert not (tmp_path / "run.toml").exists()


def row(**given: Any) -> dict[str, Any]:
    values = {"layer": 3, "offset": 2, "scored_offset": 2, "domain": "all", "rank": 4, "best": True}
    values |= {"nats": 0.25, "probe_nats": 0.5, "verdict": "used"}
    values |= {"beyond_nats": 0.2, "beyond_nats_low": 0.1, "beyond_nats_high": 0.3}
    return values | given


def test_sentences_say_what_was_found() -> None:
    now = row(scored_offset=1, beyond_nats=0.0, beyond_nats_low=-0.01, beyond_nats_high=0.01)
    other = row(layer=1, best=False)
    used, others = sentences([now, row(), now | {"layer": 1, "best": False}, other])
    assert used == (
        "Readable and used at t+2: without what layer 3 reads of t+2 and not of t+1 (4 directions, "
        "0.72 bits) the model loses 0.250 nats on that token when its turn comes, 0.200 [0.100, "
        "0.300] beyond what random directions cost; on the next token, 0.000 [-0.010, 0.010]."
    )
    assert others.startswith("Of 1 other layers and offsets, what is read is used at 1 (layer 1 at")
    for verdict, start in (
        ("not used", "Readable, not used at t+2: without"),
        ("cannot tell", "Readable at t+2, and whether it is used cannot be told: without"),
        ("nothing of its own", "Layer 3 reads nothing of t+2 that it does not read of t+1."),
    ):
        (said,) = sentences([now, row(verdict=verdict)])
        assert said.startswith(start)
    assert sentences([]) == []


def test_other_layers_of_which_it_cannot_be_told_are_not_called_unused() -> None:
    def said(*verdicts: str) -> str:
        others = [
            row(layer=layer, best=False, verdict=verdict, scored_offset=scored)
            for layer, verdict in enumerate(verdicts)
            for scored in (1, 2)
        ]
        (only,) = sentences(others)
        return only

    assert said("cannot tell", "cannot tell") == (
        "Whether what is read is used cannot be told at any of 2 other layers and offsets."
    )
    assert "is used at none, and at 1 it cannot be told;" in said("not used", "cannot tell")
    assert "is used at none; each verdict is right" in said("not used", "nothing of its own")

"""What is fitted, and a run in which everything is."""

from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

import probekit
from probekit.errors import RunError
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.analysis.fits import planned, unconverged
from probekit.probes.probe import FORMS, Probe, ProbeKey
from probekit.readout import FED, FURTHER
from probekit.runs import plan
from probekit.runs.reading import json_schema
from probekit.settings import Further, Settings

LAYERS = (0, 1, 2, 3)


def names(**asked: Any) -> list[tuple[str, int]]:
    return [(fit.name, fit.seed) for fit in planned(Settings(**asked), LAYERS)]


def test_linear_probes_come_first_and_only_once() -> None:
    assert names(controls="none") == [("linear", 0)]
    assert names(controls="none", probe=("concat", "linear")) == [("linear", 0), ("concat", 0)]


def test_only_what_is_random_is_fitted_with_every_seed() -> None:
    assert names(probe=("mlp", "sklearn"), seed=5, seeds=2) == [
        ("linear", 5), ("mlp", 5), ("mlp", 6), ("sklearn", 5),
        ("control", 5), ("control", 6), ("random", 5), ("random", 6), ("random", 7),
    ]  # fmt: skip


def test_controls_run_at_offset_2_and_three_layers_unless_all_are_asked_for() -> None:
    found = {fit.name: fit for fit in planned(Settings(), LAYERS)}
    # At layer 0 both are known without a fit.
    assert (found["control"].layers, found["control"].offsets) == ((1, 3), (2,))
    drawn = [fit.layers for fit in planned(Settings(), LAYERS) if fit.name == "random"]
    assert drawn == [(1, 3), (3,), (3,)]
    assert (found["linear"].layers, found["linear"].offsets) == (LAYERS, (1, 2, 3, 4))
    every = {fit.name: fit for fit in planned(Settings(controls="all"), LAYERS)}
    assert (every["control"].layers, every["control"].offsets) == (LAYERS[1:], (1, 2, 3, 4))
    assert (every["random"].layers, every["random"].offsets) == (LAYERS[1:], (1, 2, 3, 4))


def test_probes_that_are_not_at_their_minimum_are_said() -> None:
    def probe(converged: bool) -> Probe:
        return Probe({}, "minimum", 1.0, 0.0, converged, 0.0)

    cells: list[ProbeKey] = [(layer, offset) for layer in (0, 1, 2) for offset in (1, 2)]
    good = {cell: probe(True) for cell in cells}
    bad = {key: probe(key == (1, 1)) for key in good}
    assert not list(unconverged([("linear", good), ("random", good)]))
    (said,) = unconverged([("linear", bad), ("random", good)])
    assert said["code"] == "not-converged"
    assert said["message"].startswith("5 of 6 probes (linear)")
    assert "(layer 0 at t+1, layer 0 at t+2, layer 1 at t+2, ...)" in said["message"]
    (said,) = unconverged([("concat", {(None, 2): probe(False)})])
    assert "(all layers at t+2)" in said["message"]


@pytest.fixture(scope="module")
def everything(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "probekit.probes.nonconvex.MOST_EPOCHS", 2
        )  # how far it trains is not the question
        return probekit.analyze(
            **asked | {"offsets": 3, "layers": (0,)},
            probe=tuple(FORMS),
            readout=get_args(Further),
            controls="all",
            target="model",
            marginal_offsets=2,
            seeds=2,
            codelength=True,
            output=tmp_path_factory.mktemp("everything"),
        )


@pytest.mark.slow
def test_a_run_of_everything_is_valid_and_has_all_readouts(everything: Run) -> None:
    Draft202012Validator(json_schema()).validate(dict(everything.results))
    scores = everything.scores
    floors = {"control", "random", "marginal", "lens", "model"}
    assert {*FORMS, *FURTHER, *FED, *floors} < set(scores["readout"])
    assert set(scores[scores["readout"] != "control"]["target"]) == {"model"}
    assert set(scores[scores["readout"] == "control"]["target"]) == {"control"}
    again = set(scores[scores["seed"] == 1]["readout"])
    assert again == {"mlp", "linear-lowrank", "control", "random"}
    assert set(scores[scores["seed"] == 2]["readout"]) == {"random"}
    assert scores["n_parameters"][scores["readout"] == "concat"].min() > 0
    assert {row["offset"] for row in everything.results["marginal"]} == {2}
    assert [row["offset"] for row in everything.results["horizon"]] == [2, 3]
    # Layers 0 and L at three offsets; behind the last layer only t+1 hangs on what is put there.
    transplants = everything.results["transplants"]
    assert len(transplants) == 6
    behind = [row for row in transplants if row["layer"]]
    assert behind[0]["top1"] > behind[0]["top1_alone"]
    assert all(row["top1"] == row["top1_alone"] for row in behind[1:])
    first = [row["top1_gained"] for row in transplants if not row["layer"]]
    assert first == pytest.approx([0, 0, 0])
    fed = scores[scores["readout"].isin(FED)]
    assert set(zip(fed["split"], fed["positions"], strict=True)) == {("test", "marginal")}
    assert (fed["blind"] == (fed["offset"] == 1)).all()
    page = everything.report.read_text(encoding="utf-8")
    assert "Marginalization beyond t+2: no share is told" in page
    assert "Bits against offset" in page


@pytest.mark.slow
def test_the_model_agrees_with_its_own_continuation(everything: Run) -> None:
    scores = everything.scores
    own = scores[(scores["readout"] == "model") & (scores["split"] == "test")]
    assert own["top1"].tolist() == pytest.approx([1.0] * len(own))
    text = probekit.load(everything.folder).settings
    assert text.target == "model"


@pytest.mark.slow
def test_every_family_has_a_best_layer_and_a_gain_over_the_linear_probe(everything: Run) -> None:
    rows = everything.results["families"]
    assert {row["readout"] for row in rows} == set(FORMS)
    linear = [row for row in rows if row["readout"] == "linear"]
    assert {row["bits_over_linear"] for row in linear} == {0.0}
    assert all(row["layer"] is None for row in rows if row["readout"] == "concat")
    assert {row["seed"] for row in rows if row["readout"] == "mlp"} == {0, 1}


@pytest.mark.slow
def test_controls_codelength_and_sequences_are_there(everything: Run) -> None:
    results = everything.results
    at = {(row["layer"], row["offset"], row["seed"]) for row in results["controls"]}
    assert at == {(2, k, seed) for k in (1, 2, 3) for seed in (0, 1)}
    assert {(row["layer"], row["offset"]) for row in results["codelength"]} == {
        (layer, k) for layer in (0, 2) for k in (1, 2, 3)
    }
    rows = {(r["readout"], r["layer"], r["offset"]): r for r in results["sequences"]}
    assert {row["target"] for row in rows.values()} == {"model"}
    assert rows["linear", 2, 3]["joint_nats"] > rows["linear", 2, 2]["joint_nats"]
    assert rows["concat", None, 3]["joint"] <= rows["concat", None, 2]["joint"]


@pytest.mark.slow
def test_the_probes_of_a_family_can_be_loaded(everything: Run, finished_run: Run) -> None:
    found = probekit.load_probes(everything.folder, family="mlp")
    assert found.family == "mlp"
    assert set(found.probes) == {(layer, k) for layer in (0, 2) for k in (1, 2, 3)}
    with pytest.raises(RunError, match="there are no probes at"):
        probekit.load_probes(finished_run.folder, family="mlp")


def test_a_run_without_room_for_a_second_model_says_so(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "free_bytes", lambda _: 10_000)  # the model has 20 kB
    said: list[str] = []
    run = probekit.analyze(**asked, marginal="off", output=tmp_path, say=said.append)
    assert any("without the control on an untrained model" in line for line in said)
    assert "random" not in set(run.scores["readout"])
    assert "untrained-left-out" in {row["code"] for row in run.results["warnings"]}
    for row in run.results["controls"]:
        assert (row["random_bits"], row["bits_over_random"], row["random_draws"]) == (None, None, 0)
    Draft202012Validator(json_schema()).validate(dict(run.results))
    assert "there was no room for a second model" in run.report.read_text()


def test_a_run_without_controls_says_so_by_an_empty_part(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    run = probekit.analyze(**asked, controls="none", marginal="off", output=tmp_path)
    assert run.results["controls"] == []
    assert run.results["codelength"] == []
    Draft202012Validator(json_schema()).validate(dict(run.results))

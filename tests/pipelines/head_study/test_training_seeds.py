"""Several training seeds: each strategy is trained with each, and what is told is their mean."""

from pathlib import Path
from typing import Any

import pytest

from probekit.pipelines.head_study.study_heads import study_heads
from support.head_runs import QUICK, rows


@pytest.mark.slow
def test_strategies_are_trained_with_each_seed_and_their_mean_is_told(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    given = asked | QUICK | {"strategies": ("heads-only",), "sweep": "none", "init": "random"}
    run = study_heads(**given, seeds=3, output=tmp_path / "run")
    table = run.documents
    own = table[(table["positions"] == "all") & (table["offset"] == 2)]
    by_seed = {
        name: own[own["readout"] == name].groupby("seed")["nats_sum"].sum()
        for name in ("heads-only", "linear")
    }
    assert by_seed["heads-only"].nunique() == 3, "first values and the order of blocks are drawn"
    assert len(by_seed["linear"]) == 1
    (told,) = rows(run, "scores", strategy="heads-only", offset=2, positions="all")
    assert told["nats"] == pytest.approx(by_seed["heads-only"].mean() / told["n_positions"])
    assert "Intervals are over documents and 3 training seeds." in run.document["verdict"]
    (training,) = rows(run, "training", strategy="heads-only")
    assert set(training) >= {"left_out", "best_steps"}

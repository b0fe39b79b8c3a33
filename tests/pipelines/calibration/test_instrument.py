"""What an analysis of the built-in models must find, whatever the machine and the text."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from probekit.pipelines.analysis.finished import Run
from probekit.scoring.rates import TOKEN_ONLY, DocumentSums, Rates

pytestmark = pytest.mark.slow

MODELS = ("tiny", "tiny-mtp")
LAYERS = range(7)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    import probekit

    folder = tmp_path_factory.mktemp("runs")
    settings: dict[str, Any] = {"offsets": 2, "max_tokens": 12_000, "marginal_positions": 300}
    return {
        name: probekit.analyze(
            name, output=folder / name, **settings, controls="default" if name == "tiny" else "none"
        )
        for name in MODELS
    }


@pytest.fixture(scope="session")
def rates(runs: dict[str, Run]) -> Callable[[str, str], Rates]:
    def of(model: str, positions: str) -> Rates:
        table = runs[model].documents
        owners = dict(zip(table["document"].tolist(), table["domain"].tolist(), strict=True))
        names = [owners.get(number, "") for number in range(max(owners) + 1)]
        sums = DocumentSums(table, names, [1.0] * len(names))
        return sums.rates("all", "test", positions)

    return of


@pytest.mark.parametrize("model", MODELS)
def test_no_probe_is_worse_than_the_lens_at_its_cell(
    rates: Callable[[str, str], Rates], model: str
) -> None:
    found = rates(model, "all")
    for layer in LAYERS:
        for offset in (1, 2):
            loss = found.nats("linear", layer, offset) - found.nats("lens", layer, offset)
            assert found.summary(loss)[1] <= 0, (layer, offset)


@pytest.mark.parametrize("model", MODELS)
def test_the_probe_of_the_last_layer_keeps_what_the_model_has(
    rates: Callable[[str, str], Rates], model: str
) -> None:
    found = rates(model, "all")
    loss = found.nats("linear", 6, 1) - found.nats("model", None, 1)
    assert loss[0] <= 0.02


def test_marginalization_beats_every_blind_readout_two_tokens_ahead(
    rates: Callable[[str, str], Rates],
) -> None:
    found = rates("tiny", "marginal")
    ceiling = found.nats("marginal", None, 2)
    # The targets of the control are not the text's.
    others = [key for key in found.cells if key[2] == 2 and key[0] not in ("marginal", "control")]
    n_random = len([key for key in others if key[0] == "random"])
    assert n_random == 2
    assert len(others) == 2 * len(LAYERS) + 2 + n_random
    for key in others:
        assert found.summary(found.nats(*key) - ceiling)[1] > 0, key


@pytest.mark.parametrize("offset", [1, 2])
def test_the_unigram_is_the_worst_of_what_is_fitted(
    rates: Callable[[str, str], Rates], offset: int
) -> None:
    found = rates("tiny", "all")
    unigram = found.nats("unigram", None, offset)
    fitted = [("skip-bigram", None), *(("linear", layer) for layer in LAYERS)]
    for readout, layer in fitted:
        gain = unigram - found.nats(readout, layer, offset)
        assert found.summary(gain)[1] > 0, (readout, layer)


def test_the_floor_that_validation_chose_is_the_better_one_on_test(
    rates: Callable[[str, str], Rates], runs: dict[str, Run]
) -> None:
    found = rates("tiny", "all")
    row = runs["tiny"].specialization.query("offset == 2 and domain == 'all'").iloc[0]
    layer = None if pd.isna(row["floor_layer"]) else int(row["floor_layer"])
    chosen = found.nats(row["floor"], layer, 2)
    # Both see the current token alone; embeddings know it from far more text.
    for name, at in TOKEN_ONLY:
        assert found.summary(chosen - found.nats(name, at, 2))[1] <= 0.02


def test_the_readout_gap_is_smaller_where_the_model_was_trained_to_see_further(
    runs: dict[str, Run],
) -> None:
    # Of the late loss nothing is claimed: a last block for the next token alone may lose more.
    rows = {
        name: run.specialization.query("offset == 2 and domain == 'all'").iloc[0]
        for name, run in runs.items()
    }
    assert rows["tiny-mtp"]["recovered_low"] > rows["tiny"]["recovered_high"]
    gaps = {name: row["room_bits"] - row["read_bits"] for name, row in rows.items()}
    assert gaps["tiny-mtp"] < gaps["tiny"] - 0.2


def test_every_probe_converged(runs: dict[str, Run]) -> None:
    probes = runs["tiny"].scores.query("readout == 'linear'")
    assert len(probes) > 0
    assert probes["converged"].all()


def test_bits_follow_from_nats(runs: dict[str, Run]) -> None:
    every = runs["tiny"].scores
    scores = every.query("split == 'test' and positions == 'all' and readout != 'control'")
    assert every[every["readout"] == "control"]["bits"].isna().all()
    for _, group in scores.groupby(["domain", "offset"]):
        floor = group.loc[group["readout"] == "unigram", "nats"].item()
        assert np.allclose(group["bits"], (floor - group["nats"]) / math.log(2))


def test_the_run_folder_is_whole(runs: dict[str, Run]) -> None:
    names = {path.name for path in Path(runs["tiny"].folder).iterdir()}
    assert names == {
        "results.json", "scores.parquet", "documents.parquet", "marginal-positions.parquet",
        "passages.json", "probes.safetensors", "report.html",
        "run.toml", "log.jsonl", "run.sha256",
    }  # fmt: skip

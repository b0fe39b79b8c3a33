"""The ceiling of a run: unbiased cross-entropies beside ranks over the paths kept."""

from typing import Any

import pandas as pd
import pytest
import torch

from probekit.data.targets import text_targets
from probekit.marginalization import continuations
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.runs import ceiling
from probekit.runs.setup import load_model, prepare
from probekit.runs.streams import SITE_OF_MODEL
from probekit.scoring.score import score
from probekit.settings import Settings


@pytest.fixture(scope="module")
def measured(asked: dict[str, Any]) -> Any:
    """Return a ceiling of few paths, and the scores of one that keeps them all."""
    settings = Settings.from_mapping(
        asked | {"offsets": 3, "nucleus": 0.5, "max_branches": 480, "marginal_positions": 60}
    )
    setup = prepare(load_model(settings), settings)
    targets = text_targets(setup.blocks["test"], 3)
    drawn = ceiling.scored_positions(setup, settings)["marginal"]
    found = ceiling.marginalize_drawn("marginal", settings, setup, targets, drawn)
    everything = Truncation(nucleus=1.0, max_branches=setup.anatomy.vocab_size**2)
    stream = setup.stream("test", (), SITE_OF_MODEL, batch_size=1)
    documents = setup.blocks["test"].documents
    exact, truncated = (
        score([readout], stream, targets, {"marginal": drawn}, documents)
        for readout in (
            Marginalization(setup.branches(), everything),
            ceiling.marginalization(setup, settings, "marginal"),
        )
    )
    return found, exact, truncated


def test_a_position_is_the_same_bits_whichever_blocks_are_marginalized(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a large vocabulary: what is expected most is taken from all positions.
    monkeypatch.setattr(continuations, "MOST_CONTINUED", 5)
    settings = Settings.from_mapping(asked | {"max_branches": 4})
    setup = prepare(load_model(settings), settings)
    drawn = ceiling.scored_positions(setup, settings)["marginal"]
    given = "marginal", settings, setup, text_targets(setup.blocks["test"], 2), drawn
    whole, _ = ceiling.positions(*given, drawn)
    parts = []
    for number in (0, 1):
        own = drawn.clone()
        own[1 - number :: 2] = False
        parts.append(ceiling.positions(*given, own)[0])
    assert all(len(part) for part in parts)
    together = pd.concat(parts).sort_values(["block", "offset", "position"], ignore_index=True)
    pd.testing.assert_frame_equal(together, whole, check_exact=True)
    nothing, checks = ceiling.positions(*given, torch.zeros_like(drawn))
    assert (len(nothing), checks) == (0, [])


def mean(table: Any, column: str, offset: int) -> float:
    rows = table[table["offset"] == offset]
    return float(rows[column].sum() / rows["n"].sum())


def test_the_ceiling_of_a_run_is_exact_where_its_paths_are_few(measured: Any) -> None:
    found, exact, truncated = measured
    rows = {row["offset"]: row for row in found.rows}
    for offset in (2, 3):
        right = mean(exact, "nats_sum", offset)
        # Each group has room for all other tokens, and at t+3 for those pairs that matter.
        assert mean(found.table, "nats_sum", offset) == pytest.approx(right, abs=0.005)
        assert rows[offset]["nats_error"] < 0.005
        assert abs(mean(truncated, "nats_sum", offset) - right) > 0.015
        assert right < rows[offset]["nats_at_most"]


def test_its_ranks_are_those_of_the_paths_kept(measured: Any) -> None:
    found, _, truncated = measured
    keys, ranks = ["offset", "document"], ["n", "top1_sum", "top5_sum"]
    same = found.table.sort_values(keys)[ranks].to_numpy()
    assert same.tolist() == truncated.sort_values(keys)[ranks].to_numpy().tolist()
    assert mean(found.table, "joint_sum", 2) == mean(found.table, "top1_sum", 2)
    # The most probable pair is right at least where both modes are, but for truncation.
    assert mean(found.table, "joint_sum", 3) <= mean(found.table, "top1_sum", 2)
    assert torch.tensor(found.table["joint_nats_sum"].to_numpy()).isfinite().all()

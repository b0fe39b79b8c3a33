"""Known answers of the causal check: used, readable and unused, nothing to read; and its level."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from probekit.causal import effects, used
from probekit.causal.effects import ALIKE, DRAWS, RANDOM, READ, WHOLE
from probekit.causal.rerun import Rerun
from probekit.causal.subspaces import Decoding, Layer
from probekit.pipelines.calibration import llama_weights
from probekit.pipelines.calibration.planted_signal import Planted
from probekit.probes.probe import Probes
from probekit.scoring.rates import DocumentSums
from support.worlds import World

TEXT = Planted()
# Held there, and read one position later by the block behind; written again here, and not read.
USED_LAYER, DECOY_LAYER = 3, 5
SIZES = {"train": 160, "validation": 40, "test": 60}


def world(seed: int) -> World:
    model = TEXT.model()
    llama_weights.write_sum(model, DECOY_LAYER)
    return World(TEXT, 3, SIZES, model, first_seed=3 * seed)


def checked(of: World, probes: Probes, layer: int, offset: int) -> list[dict[str, Any]]:
    """Return the rows of the causal check, by scored offset."""
    train, test = of.batches("train"), of.batches("test")
    unigram = torch.full((TEXT.n_tokens,), 1 / TEXT.n_tokens)
    decoding = Decoding.of(of.anatomy, unigram)
    known = Layer.of(train, decoding, layer, of.targets["train"].valid[1])
    held = of.batches("validation"), of.targets["validation"]
    next_token = known.read_by(probes.probes[layer, 1])
    chosen = effects.choose(known, next_token, offset, probes, held, seed=0)
    where = of.positions("test", per_document=4)
    rerun = Rerun(of.model, of.anatomy, layer)
    table = effects.effects(
        chosen, rerun, test, of.targets["test"], where, of.parts["test"].documents
    )
    return list(used.rows(of.sums(table.assign(split="test", seed=0))))


# Without the sum all tokens are alike one position later: what the model knew is gone.
EXACT = math.log(TEXT.n_tokens) - TEXT.ceiling_nats(1)


def require_right(of: World) -> dict[str, Any]:
    """Check all verdicts, and return the row of the signal that is used."""
    probes = of.fitted(of.targets, [USED_LAYER, DECOY_LAYER])
    assert isinstance(probes, Probes)
    now, later = checked(of, probes, USED_LAYER, 2)
    assert later["verdict"] == used.USED
    assert later["rank"] == TEXT.n_tokens - 1
    assert now["verdict"] != used.USED  # but for what any part as large does to the norm
    of_decoy, in_its_turn = checked(of, probes, DECOY_LAYER, 2)
    assert of_decoy["verdict"] != used.USED
    assert in_its_turn["verdict"] == used.UNUSED
    assert in_its_turn["probe_nats"] > 1
    assert in_its_turn["nats"] == 0
    assert {row["verdict"] for row in checked(of, probes, USED_LAYER, 3)} == {used.NOTHING}
    return later


def test_a_used_signal_is_found_used_a_decoy_unused_and_noise_nothing() -> None:
    row = require_right(world(0))
    assert row["nats_low"] <= EXACT <= row["nats_high"]


@pytest.mark.slow
def test_so_it_is_over_seeds_and_costs_what_the_closed_form_says() -> None:
    rows = [require_right(world(seed)) for seed in range(1, 7)]
    assert np.mean([row["nats"] for row in rows]) == pytest.approx(EXACT, rel=0.05)
    # Of 6 intervals of 95 % two miss once in 30 times, three once in 450.
    assert sum(row["nats_low"] <= EXACT <= row["nats_high"] for row in rows) >= 4


def made(rng: np.random.Generator, more: float) -> DocumentSums:
    """Return sums of a part that costs so much more than a random one, of documents that vary."""
    documents, n = 40, 10
    names = [WHOLE, READ, *(f"{kind}-{i}" for kind in (RANDOM, ALIKE) for i in range(DRAWS))]
    rows = []
    for name in names:
        typical = 0.0 if name == WHOLE else rng.normal(0.3, 0.1) + more * (name == READ)
        cost = n * (typical + rng.normal(0, 0.05, documents))
        table = pd.DataFrame({"document": range(documents), "nats_sum": cost}).assign(readout=name)
        rows.append(table)
    rest: dict[str, Any] = {f"{name}_sum": 0.0 for name in ("top1", "top5", "joint", "joint_nats")}
    rest |= {"read_offset": 1, "rank": 1, "variance_share": 0.1, "probe_nats": 1.0}
    rest |= {"layer": 0, "offset": 1, "blind": False, "positions": "causal", "n": n}
    table = pd.concat(rows, ignore_index=True).assign(split="test", seed=0)
    return DocumentSums(table.assign(**rest), ["one"] * 40, [1.0] * 40)


def test_a_part_like_random_ones_is_called_used_no_oftener_than_is_said() -> None:
    rng = np.random.default_rng(0)
    verdicts = [next(iter(used.rows(made(rng, 0.0))))["verdict"] for _ in range(60)]
    # An interval of 95 % lies above zero once in 40; above 5 of 60 by chance once in 300.
    assert verdicts.count(used.USED) <= 5
    verdicts = [next(iter(used.rows(made(rng, 1.0))))["verdict"] for _ in range(20)]
    assert set(verdicts) == {used.USED}

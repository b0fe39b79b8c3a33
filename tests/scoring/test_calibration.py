"""Calibration on readouts whose sureness is known."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pytest
import torch

from probekit.data.targets import Targets
from probekit.readout import Cell, Seen
from probekit.scoring.calibration import calibration_error, calibration_rows, reliability
from probekit.scoring.losses import losses
from probekit.scoring.positions import TEMPERATURES, TEMPERED, score_positions

VOCABULARY, POSITIONS = 12, 400


class Drawn:
    """A readout whose targets are drawn from softmax(logits / temperature)."""

    layers: frozenset[int] = frozenset()

    def __init__(self, temperature: float) -> None:
        draw = torch.Generator().manual_seed(0)
        self.logits = 3 * torch.randn(POSITIONS, VOCABULARY, generator=draw)
        probs = (self.logits / temperature).softmax(1)
        self.targets = torch.multinomial(probs, 1, generator=draw)[:, 0]

    def predict(
        self, seen: Seen, valid: Mapping[int, torch.Tensor]
    ) -> Iterator[tuple[Cell, torch.Tensor]]:
        del seen, valid
        yield Cell("drawn", 2, 3), self.logits

    def table(self) -> pd.DataFrame:
        ids = self.targets.view(1, -1)
        everywhere = torch.ones_like(ids, dtype=torch.bool)
        targets = Targets("text", {2: ids}, {2: everywhere})
        documents = torch.arange(POSITIONS).view(1, -1) // 40
        return score_positions([self], [Seen(ids, {})], targets, everywhere, documents)


def test_positions_have_the_losses_that_are_summed_elsewhere() -> None:
    readout = Drawn(1.0)
    table, right = readout.table(), losses(readout.logits, readout.targets)
    assert table["nats"].tolist() == pytest.approx(right.nats.tolist())
    assert table["top1"].tolist() == right.top1.tolist()
    assert table["confidence"].tolist() == pytest.approx(
        readout.logits.softmax(1).max(1).values.tolist()
    )
    at_two = losses(readout.logits / TEMPERATURES[-1], readout.targets)
    assert TEMPERATURES[-1] == 2
    assert table[TEMPERED[-1]].tolist() == pytest.approx(at_two.nats.tolist(), rel=1e-5)
    for temperature, name in zip(TEMPERATURES, TEMPERED, strict=True):
        at_this = losses(readout.logits / temperature, readout.targets).nats.tolist()
        assert table[name].tolist() == pytest.approx(at_this, rel=1e-5, abs=2e-6)
    assert table["document"].tolist() == [n // 40 for n in range(POSITIONS)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_temperature_that_targets_were_drawn_at_is_found(temperature: float) -> None:
    (row,) = calibration_rows(Drawn(temperature).table())
    assert row["layer"] == 3
    assert row["temperature"] == pytest.approx(temperature, rel=0.2)
    gain = row["temperature_gain_nats"]
    assert gain > 0.02 if temperature != 1 else abs(gain) < 0.01
    honest = math.sqrt(0.25 / (POSITIONS / 10))
    assert (row["calibration_error"] < honest) == (temperature == 1)


def test_bins_hold_as_many_positions_each() -> None:
    confidence = np.linspace(0, 1, 95)
    bins = reliability(confidence, (confidence > 0.5).astype(float))
    assert {row["n"] for row in bins} == {9, 10}
    assert sum(row["n"] for row in bins) == 95
    assert calibration_error(bins) == pytest.approx(0.25, abs=0.03)

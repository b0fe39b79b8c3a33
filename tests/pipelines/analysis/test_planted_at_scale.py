"""A known answer in the shape of a real model, by one process and by two, in waves, from disk."""

import math
from pathlib import Path

import pytest
import torch

from probekit.data.targets import text_targets
from probekit.pipelines.analysis import fits
from probekit.pipelines.analysis.fits import Fit, Inputs
from probekit.probes import waves
from probekit.probes.probe import Probes
from probekit.progress import Journal
from probekit.runs import plan
from probekit.runs.ranks import Ranks
from probekit.runs.setup import Setup, load_model, prepare
from probekit.runs.stages import Stages
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.scoring.score import score
from probekit.settings import Settings
from support import planted_at_scale as scale

FIT = Fit("linear", "linear", 0, (1, 3), (2,))


def fitted(setup: Setup, folder: Path, count: int) -> Probes:
    """Return the probes that so many processes fit, each its share."""
    for number in range(count):
        ranks = Ranks(number, count)
        stages = Stages(folder / f"of-{count}", Journal(None, print), "a" * 64, ranks)
        share = FIT.share(ranks, setup.layers)
        assert share is not None
        streams = Streams(setup, tuple(sorted({*share.layers, 3})), SITE_OF_MODEL)
        targets = {split: text_targets(blocks, 2) for split, blocks in setup.blocks.items()}
        inputs = fits.inputs_of(share, Inputs(streams, targets))
        fits.fit_or_recall(share, inputs, setup, stages)
    return fits.recall(FIT, setup.anatomy, setup, stages)


@pytest.mark.slow
def test_a_signal_at_v_49152_is_found_at_its_layer_by_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_mapping(
        scale.save(tmp_path) | {"offsets": 2, "batch_size": 8, "block": 96}
    )
    loaded = load_model(settings)
    monkeypatch.setattr(plan, "free_bytes", lambda _: 10**6)
    made = prepare(loaded, settings, FIT.layers, scratch=tmp_path)
    monkeypatch.setattr(waves, "free_bytes", lambda _: 2 * waves.cell_bytes(made.anatomy))
    assert (made.plan.store, waves.wave_size(2, waves.cell_bytes(made.anatomy), made.anatomy)) == (
        "disk",
        1,
    )
    alone, together = (fitted(made, tmp_path, count) for count in (1, 2))
    for key, probe in alone.probes.items():
        assert probe.converged
        for name, tensor in probe.tensors.items():
            assert torch.equal(tensor, together.probes[key].tensors[name])
    test = made.blocks["test"]
    where = {"all": test.documents >= 0}
    targets = text_targets(test, 2).only([2])
    stream = made.stream("test", FIT.layers, SITE_OF_MODEL)
    table = score([alone], stream, targets, where, test.documents)
    sums = table.groupby("layer")[["n", "nats_sum"]].sum()
    found = sums["nats_sum"] / sums["n"]
    # Two standard errors of a thousand positions, and what is learnt by heart.
    assert found[1] == pytest.approx(scale.nats(1, 2), abs=0.15)
    assert scale.nats(3, 2) == pytest.approx(math.log(scale.VOCABULARY))
    assert scale.nats(3, 2) - 0.02 < found[3] < scale.nats(3, 2) + 0.3

"""Parts of the residual stream: what is taken out, what is left alone, what is drawn at random."""

import pytest
import torch

from probekit.causal.subspaces import Decoding, Layer
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes.probe import Probe, final_hidden
from probekit.readout import Seen
from support.architectures import VOCABULARY, build
from support.worlds import seeded


def known(name: str, read: torch.Tensor) -> tuple[Anatomy, Layer]:
    anatomy = find_anatomy(build(name))
    seen = Seen(torch.zeros(1, len(read), dtype=torch.long), {1: read[None]})
    valid = torch.ones(1, len(read), dtype=torch.bool)
    frequent = torch.rand(VOCABULARY, generator=seeded(2))
    decoding = Decoding.of(anatomy, frequent / frequent.sum())
    return anatomy, Layer.of([seen], decoding, 1, valid)


def probe(anatomy: Anatomy, rank: int, seed: int) -> Probe:
    """Return a probe that reads so many directions."""
    width = anatomy.d_hidden
    slope = torch.randn(width, rank, generator=seeded(seed)) @ torch.randn(
        rank, width, generator=seeded(seed + 1)
    )
    return Probe({"A": slope}, "minimum", 0.0, 0.0, True, 0.0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])  # RMS norm and layer norm
@torch.no_grad()
def test_what_one_probe_reads_is_gone_and_what_the_other_reads_is_left(name: str) -> None:
    read = torch.randn(400, 32, generator=seeded(0)) * torch.linspace(0.5, 2, 32)
    anatomy, layer = known(name, read)
    first, second = probe(anatomy, 3, 10), probe(anatomy, 4, 20)
    other = layer.read_by(first)
    beyond = layer.read_beyond(second, other)
    assert other.shape == (32, 3)
    assert beyond.shape == (32, 4)
    torch.testing.assert_close(beyond.T @ beyond, torch.eye(4, dtype=torch.float64))
    assert (other.T @ beyond).abs().max() < 1e-9

    removed = layer.part(torch.cat([other, beyond], dim=1)).removed(read)
    z, before = (
        final_hidden(anatomy, Seen(torch.zeros(1, 400, dtype=torch.long), {1: x[None]}), (1,))[0]
        for x in (removed, read)
    )
    # The norm divides by another size then; but for that, what either probe reads is the same.
    size = [x - x.mean(dim=1, keepdim=True) if name != "llama" else x for x in (removed, read)]
    z, before = (
        (each - each.mean(dim=0)) * x.norm(dim=1, keepdim=True)
        for each, x in zip((z, before), size, strict=True)
    )
    for each in (first, second):
        left = (z @ each.tensors["A"].T).var() / (before @ each.tensors["A"].T).var()
        assert left < 0.02, (name, float(left))
    spared = layer.part(beyond).removed(read)
    torch.testing.assert_close(spared.double() @ other, read.double() @ other, rtol=0, atol=1e-5)


def test_random_parts_have_the_rank_and_the_variance_that_is_asked_and_spare_the_rest() -> None:
    read = torch.randn(400, 32, generator=seeded(0)) * torch.logspace(-1, 1, 32)
    anatomy, layer = known("llama", read)
    outside = layer.read_by(probe(anatomy, 3, 10))
    for variance in (0.02, 0.2, 0.5):
        drawn = layer.random(5, outside, seeded(3), variance)
        assert drawn.shape == (32, 5)
        assert layer.variance(drawn) == pytest.approx(variance, rel=0.02)
        assert (outside.T @ drawn).abs().max() < 1e-9
    assert layer.variance(torch.eye(32, dtype=torch.float64)) == pytest.approx(1)
    free = [layer.random(5, outside, seeded(seed), None) for seed in range(40)]
    # Any directions alike: a part of 5 in 29, of all the variance but what is spared.
    mean = sum(layer.variance(each) for each in free) / 40
    assert mean == pytest.approx(5 / 29 * (1 - layer.variance(outside)), rel=0.25)

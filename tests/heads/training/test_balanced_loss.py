"""The gradient of several heads, taken one at a time, is that of the balanced sum."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from probekit.heads.training import lora
from probekit.heads.training.balanced_loss import Objective, RmsBalance
from probekit.heads.training.trainable import NextToken
from support.architectures import each
from support.small_training import DATA, World


@pytest.mark.parametrize("name", each(["llama", "gpt_neox", "gemma2", "cohere", "phi"]))
@pytest.mark.parametrize("balance", each(["rms", "none"], quick=["rms"]))
def test_one_head_at_a_time_gives_the_gradient_of_the_sum(name: str, balance: Any) -> None:
    world = World(name, read="mix")
    added = _live_adapters(world)
    batch = DATA.train.take(slice(0, 4), torch.device("cpu"))
    values = [*world.heads.parameters(), *added.values()]

    reading = world.backbone.read(batch.token_ids, world.heads.reads)
    total, first = torch.zeros(()), None
    for k in (1, 2):
        valid = batch.targets.valid[k]
        logits = world.heads.logits(world.heads.hidden(reading, k), k)
        nats = cross_entropy(logits[valid], batch.targets.ids[k][valid], reduction="none")
        rms = nats.detach().square().mean().sqrt()
        first = rms if first is None else first
        total = total + nats.mean() * (first / rms if balance == "rms" else 1)
    total.backward()
    wanted = [_taken(p) for p in values]

    means = Objective(world.heads, world.backbone, balance, "model").backward(batch, joint=True)
    assert list(means) == [1, 2]
    for p, gradient in zip(values, wanted, strict=True):
        scale = float(gradient.abs().max().clamp_min(1e-4))
        assert float((_taken(p) - gradient).abs().max()) < 1e-4 * scale


def _live_adapters(world: World) -> dict[str, nn.Parameter]:
    """Put adapters on that do something, and freeze the rest."""
    world.model.requires_grad_(False)
    added = dict(lora.attach(world.model, world.anatomy, [1, 2], rank=2, alpha=4.0))
    with torch.no_grad():
        for parameter in added.values():
            parameter.add_(0.05)
    return added


def _taken(parameter: nn.Parameter) -> Tensor:
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    parameter.grad = None
    return gradient


def test_the_factor_of_a_head_is_the_ratio_of_root_mean_squares() -> None:
    weigh = RmsBalance("rms")
    assert weigh(torch.tensor([3.0, 4.0])) == pytest.approx(1 / 2)
    assert weigh(torch.tensor([6.0, 8.0, 10.0, 0.0])) == pytest.approx(
        math.sqrt(25 / 2) / math.sqrt(200 / 4) / 4
    )
    assert RmsBalance("none")(torch.tensor([3.0, 4.0])) == 0.5


def test_narrow_products_change_the_gradient_by_rounding_alone() -> None:
    world = World()
    batch = DATA.train.take(slice(0, 8), torch.device("cpu"))
    found = {}
    for products in ("model", "bfloat16"):
        Objective(world.heads, world.backbone, "rms", products).backward(batch, joint=False)
        found[products] = torch.cat([_taken(p).flatten() for p in world.heads.parameters()])
    apart = (found["model"] - found["bfloat16"]).norm() / found["model"].norm()
    assert 0 < apart < 0.05


def test_the_model_itself_is_a_head_that_reads_the_last_layer() -> None:
    world = World("gemma2")
    own = NextToken(world.anatomy)
    ids = DATA.train.token_ids
    with torch.no_grad():
        hidden = own.hidden(world.backbone.read(ids, own.reads), 1)
        wanted = world.model(ids, use_cache=False).logits
        assert torch.allclose(own.logits(hidden, 1), wanted, atol=1e-5)

"""The probability of a target by paths that matter for it: unbiased, with an honest error."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from probekit.marginalization.continuations import Continuations
from probekit.marginalization.importance import GROUPS, TargetNats, TargetSampler, jackknifed
from probekit.marginalization.joint_paths import Truncation, estimates
from probekit.scoring.intervals import document_bootstrap, interval
from support.chains import ChainPrefix, sharp_chain, walk

TOKENS = 64
CHAIN = sharp_chain(TOKENS, seed=3)
TWO = Truncation("top", max_branches=2)


def continuations(guess: Tensor) -> Continuations:
    every = torch.arange(len(guess))
    return Continuations(every, every, guess.float())


def sampled(
    tokens: Tensor,
    n_paths: int,
    seed: int,
    guess: Tensor = CHAIN,
    chain: Tensor = CHAIN,
    truncation: Truncation = TWO,
) -> dict[int, TargetNats]:
    """Return the estimates for walks of shape (n, 1 + offsets), from their first token on."""
    sampler = TargetSampler(continuations(guess), truncation, n_paths)
    draw = torch.Generator().manual_seed(seed)
    size = GROUPS, len(tokens), tokens.shape[1] - 2
    uniform = torch.rand(size, generator=draw, dtype=torch.float64)
    parts: dict[int, list[TargetNats]] = {}
    for rows in torch.arange(len(tokens)).split(4000):
        at = tokens[rows, 0], tokens[rows, 2:], uniform[:, rows]
        for nats in sampler.nats(ChainPrefix(chain), *at):
            parts.setdefault(nats.offset, []).append(nats)
    return {k: _whole(k, of_offset) for k, of_offset in parts.items()}


def _whole(offset: int, parts: list[TargetNats]) -> TargetNats:
    columns = ([getattr(p, name) for p in parts] for name in ("nats", "joint_nats", "variance"))
    return TargetNats(offset, *(torch.cat(column) for column in columns))


def power(offset: int, chain: Tensor = CHAIN) -> Tensor:
    table: Tensor = torch.linalg.matrix_power(chain, offset)
    return table


def exact(tokens: Tensor, offset: int, chain: Tensor = CHAIN) -> Tensor:
    return -power(offset, chain)[tokens[:, 0], tokens[:, offset]].log()


def joint(tokens: Tensor, offset: int, chain: Tensor = CHAIN) -> Tensor:
    steps = [chain[tokens[:, k - 1], tokens[:, k]] for k in range(3, offset + 1)]
    return exact(tokens, 2, chain) - sum((step.log() for step in steps), torch.zeros(()))


@pytest.mark.parametrize(("kept", "n_paths"), [(1, 7**3), (7**3, 1)])
def test_where_all_paths_are_looked_at_the_sum_is_exact(kept: int, n_paths: int) -> None:
    few, top = sharp_chain(7, seed=3), Truncation("top", max_branches=kept)
    tokens = walk(few, torch.arange(7), 4, seed=1)
    found = sampled(tokens, n_paths, seed=0, guess=few, chain=few, truncation=top)
    for offset, nats in found.items():
        torch.testing.assert_close(nats.nats, exact(tokens, offset, few), rtol=0, atol=1e-5)
        assert float(nats.variance.max()) < 1e-12
        if n_paths > 1:  # the joint one is of paths that are drawn
            right = joint(tokens, offset, few)
            torch.testing.assert_close(nats.joint_nats, right, rtol=0, atol=1e-5)


@pytest.mark.parametrize("guess", ["right", "wrong"])
def test_the_probability_is_unbiased_whatever_the_guess(guess: str) -> None:
    n_draws = 4000
    tokens = walk(CHAIN, torch.tensor([5, 9]), 4, seed=2).repeat_interleave(n_draws, dim=0)
    wrong = sharp_chain(TOKENS, seed=8)
    found = sampled(tokens, 2, seed=1, guess=CHAIN if guess == "right" else wrong)
    for offset, nats in found.items():
        for values, right in (
            (nats.nats, exact(tokens, offset)), (nats.joint_nats, joint(tokens, offset))
        ):  # fmt: skip
            # exp of the jackknifed -log is not unbiased in p; the mean over draws of -log is near
            # the truth with the variance that was stated.
            error = (values - right).view(2, n_draws)
            assert float(error.mean(1).abs().max()) < {"right": 0.05, "wrong": 0.1}[guess]
        spread = (nats.nats - exact(tokens, offset)).view(2, n_draws).var(1)
        stated = nats.variance.view(2, n_draws).mean(1)
        assert bool((stated > 0.8 * spread).all()), (offset, stated, spread)


def test_groups_are_combined_by_the_jackknife() -> None:
    nats, variance = jackknifed(torch.tensor([[0.2], [0.4]]).double())
    assert float(nats) == pytest.approx(-2 * math.log(0.3) + (math.log(0.2) + math.log(0.4)) / 2)
    assert float(variance) == pytest.approx((math.log(2) / 2) ** 2)
    nats, variance = jackknifed(torch.tensor([[0.2], [0.4], [0.6]]).double())
    without = -np.log([0.5, 0.4, 0.3])
    assert float(nats) == pytest.approx(-3 * math.log(0.4) - 2 * without.mean())
    assert float(variance) == pytest.approx(2 * without.var())


def test_no_group_misses_a_path_that_is_kept() -> None:
    n_draws, far = 2000, sharp_chain(TOKENS, seed=8)
    tokens = walk(CHAIN, torch.tensor([5, 9]), 2, seed=2).repeat_interleave(n_draws, dim=0)
    errors = []
    for kept, n_paths in ((1, 10), (8, 3)):
        top = Truncation("top", max_branches=kept)
        nats = sampled(tokens, n_paths, seed=1, guess=far, truncation=top)[2].nats
        errors.append((nats - exact(tokens, 2)).abs())
    # As many are looked at, and the guess is wrong.
    drawn, summed = errors
    assert float(drawn.max()) > 1
    assert float(summed.max()) < 0.7
    assert float(summed.mean()) < float(drawn.mean())


def population(n: int) -> tuple[Tensor, dict[int, float]]:
    """Return walks from the stationary distribution, and the exact ceilings at offsets 2 and 3."""
    stationary = power(200)[0]
    draw = torch.Generator().manual_seed(4)
    starts = torch.multinomial(stationary, n, replacement=True, generator=draw)
    entropy = {k: float(-(stationary[:, None] * power(k) * power(k).log()).sum()) for k in (2, 3)}
    return walk(CHAIN, starts, 3, seed=5), entropy


def test_intervals_of_a_ceiling_cover_the_exact_one_as_those_of_exact_losses() -> None:
    repeats, documents, positions = 400, 30, 4
    n = repeats * documents * positions
    tokens, entropy = population(n)
    weights = document_bootstrap(documents, 1000, seed=0) / documents

    def covered(nats: Tensor, right: float) -> float:
        means = nats.view(repeats, documents, positions).mean(2).double().numpy()
        ends = [interval(weights @ row, float(documents)) for row in means]
        return float(np.mean([low <= right <= high for low, high in ends]))

    for offset, nats in sampled(tokens, 8, seed=6).items():
        right = entropy[offset]
        bias = float(nats.nats.mean()) - right
        assert abs(bias) < 2 * float(nats.nats.std()) / math.sqrt(n), offset
        of_exact = covered(exact(tokens, offset), right)
        assert 0.93 <= of_exact <= 0.97
        assert covered(nats.nats, right) == pytest.approx(of_exact, abs=0.02), offset


def test_truncated_and_renormalised_the_same_paths_are_biased() -> None:
    n = 3000
    tokens, _ = population(n)
    unbiased = sampled(tokens, 4, seed=6)
    truncated = {k: torch.zeros(n, dtype=torch.float64) for k in unbiased}
    for rows in torch.arange(n).split(100):
        horizon = torch.full_like(rows, 3)
        top = Truncation("top", max_branches=8)
        for estimate in estimates(ChainPrefix(CHAIN), tokens[rows, 0], horizon, top):
            of_target = estimate.probs[torch.arange(len(rows)), tokens[rows, estimate.offset]]
            truncated[estimate.offset][rows] = -of_target.double().log()
    for offset, nats in unbiased.items():
        right = exact(tokens, offset)
        ours, theirs = nats.nats - right, truncated[offset] - right
        # Few paths, that both would be seen to be biased.
        assert float(theirs.mean()) > 3 * abs(float(ours.mean())), offset

"""The unbiased cross-entropies of many positions, on a real model, against the exact sum."""

from functools import cache
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from probekit.data.targets import Targets
from probekit.marginalization import continuations
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.continuations import Continuations
from probekit.marginalization.joint_paths import Truncation, estimates
from probekit.marginalization.sampled_nats import NatsSampler
from probekit.readout import Seen
from support.architectures import VOCABULARY, build

LENGTH, BOS = 12, 1
OFFSETS = 2, 3


@cache
def sharp() -> Any:
    """Return a random model whose distributions are as sharp as those of a trained one."""
    model: Any = build("mistral")
    model.get_output_embeddings().weight.data *= 6
    return model


def text() -> tuple[Tensor, Targets]:
    """Return two blocks and targets that the model itself might have gone on with."""
    ids = torch.randint(VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    valid = torch.ones_like(ids, dtype=torch.bool)
    shifted = {k: ids.roll(-k, dims=1) for k in (1, *OFFSETS)}
    return ids, Targets("text", shifted, dict.fromkeys(shifted, valid))


def drawn(*places: tuple[int, int]) -> Tensor:
    mask = torch.zeros(2, LENGTH, dtype=torch.bool)
    for place in places:
        mask[place] = True
    return mask


def nats(mask: Tensor, n_paths: int, seed: int = 0) -> pd.DataFrame:
    ids, targets = text()
    top = Truncation("top", max_branches=n_paths)
    sampler = NatsSampler(BranchEngine(sharp()), BOS, top, n_paths, seed)
    table = sampler.nats([Seen(ids[:1], {}), Seen(ids[1:], {}, first_block=1)], targets, mask)
    return table.set_index(["block", "position", "offset"])


@torch.no_grad()
def next_probs(paths: Tensor) -> Tensor:
    rows = [sharp()(part).logits[:, -1].softmax(-1) for part in paths.split(1024)]
    return torch.cat(rows).double()


@cache
def exact(block: int, position: int) -> tuple[float, float, float]:
    """Return the marginals of the targets at offsets 2 and 3, and their joint probability."""
    ids, targets = text()
    second, third = (int(targets.ids[k][block, position]) for k in OFFSETS)
    context = ids[block : block + 1, : position + 1]
    first = next_probs(context)[0]
    every = torch.arange(VOCABULARY)[:, None]
    ones = torch.cat([context.expand(VOCABULARY, -1), every], dim=1)
    after_one = next_probs(ones)
    twos = torch.cat([ones.repeat_interleave(VOCABULARY, 0), every.repeat(VOCABULARY, 1)], dim=1)
    after_two = next_probs(twos)[:, third].view(VOCABULARY, VOCABULARY)
    pairs = first[:, None] * after_one
    return (
        float(first @ after_one[:, second]),
        float((pairs * after_two).sum()),
        float((pairs * after_two)[:, second].sum()),
    )


def test_with_every_path_they_are_the_sums_over_the_whole_vocabulary() -> None:
    table = nats(drawn((0, 3), (1, 7)), VOCABULARY**2)
    assert list(table.index) == [(0, 3, 2), (0, 3, 3), (1, 7, 2), (1, 7, 3)]
    for block, position in ((0, 3), (1, 7)):
        second, third, both = (-torch.tensor(exact(block, position)).log()).tolist()
        assert table["nats"][block, position, 2] == pytest.approx(second, abs=1e-4)
        assert table["nats"][block, position, 3] == pytest.approx(third, abs=1e-4)
        assert table["joint_nats"][block, position, 3] == pytest.approx(both, abs=1e-4)
    assert float(table["variance"].max()) < 1e-9


def test_with_few_paths_their_mean_over_draws_is_exact_within_its_error() -> None:
    tables = pd.concat([nats(drawn((0, 3), (1, 7)), 8, seed) for seed in range(60)])
    means, errors = (tables.groupby(level=[0, 1, 2])["nats"].agg(how) for how in ("mean", "sem"))
    for block, position in ((0, 3), (1, 7)):
        for offset, p in zip(OFFSETS, exact(block, position), strict=False):
            right = -float(torch.tensor(p).log())
            at = block, position, offset
            assert abs(means[at] - right) < max(3 * errors[at], 1e-3), (at, means[at], right)


def test_the_draws_of_a_block_depend_on_no_other_block_and_on_the_seed() -> None:
    both, alone = nats(drawn((0, 3), (1, 7)), 4), nats(drawn((1, 7)), 4)
    assert both.loc[1]["nats"].tolist() == pytest.approx(alone.loc[1]["nats"].tolist(), rel=0.05)
    again, other = nats(drawn((0, 3), (1, 7)), 4), nats(drawn((0, 3), (1, 7)), 4, seed=1)
    assert again.equals(both)
    assert not other["nats"].equals(both["nats"])


def test_continuations_are_of_the_tokens_that_are_expected_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuations, "MOST_CONTINUED", 3)
    expected = torch.zeros(VOCABULARY)
    expected[[4, 9, 30]] = torch.tensor([0.5, 2.0, 1.0])
    targets = torch.tensor([7, 2, 7])
    found = Continuations.of(BranchEngine(sharp()), BOS, targets, expected)
    assert found.tokens.tolist() == [4, 9, 30]
    by_hand = next_probs(torch.tensor([[BOS, 4], [BOS, 9], [BOS, 30]]))[:, targets].T
    torch.testing.assert_close(found.guess(targets).double(), by_hand, rtol=0, atol=1e-5)


def test_the_mode_is_that_of_the_joint_distribution() -> None:
    ids, _ = text()
    prefix, at = BranchEngine(sharp()).read(ids[0]), torch.tensor([2, 6, 9])
    every = Truncation(nucleus=1.0, max_branches=VOCABULARY**2)
    found = {
        (estimate.offset, position): mode
        for estimate in estimates(prefix, at, torch.full_like(at, 3), every)
        for position, mode in zip(estimate.positions.tolist(), estimate.mode.tolist(), strict=True)
    }
    for position in at.tolist():
        context = ids[:1, : position + 1]
        first = next_probs(context)[0]
        tokens = torch.arange(VOCABULARY)[:, None]
        ones = torch.cat([context.expand(VOCABULARY, -1), tokens], dim=1)
        twos = torch.cat(
            [ones.repeat_interleave(VOCABULARY, 0), tokens.repeat(VOCABULARY, 1)], dim=1
        )
        pairs = (first[:, None] * next_probs(ones))[:, :, None]
        cube = pairs * next_probs(twos).view(VOCABULARY, VOCABULARY, VOCABULARY)
        best = int(cube.sum(0).argmax())
        assert found[3, position] == [best // VOCABULARY, best % VOCABULARY]
        assert found[2, position] == [int(pairs.sum((0, 2)).argmax())]

"""Which paths are kept at each level: the most probable ones, or stratified draws."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probekit.marginalization.joint_paths import Paths, Truncation, _drawn, _most_probable


def drawn_by_row(probs: list[list[float]], copies: list[int], seed: int) -> Tensor:
    """Return how often each token was drawn for each path, shape (paths, vocab)."""
    n, generator = sum(copies), torch.Generator().manual_seed(seed)
    weight = torch.tensor(copies, dtype=torch.float64) / n
    index = torch.zeros(len(copies), dtype=torch.long)
    paths = Paths(index, index, index, weight, weight)
    row, token, count = _drawn(torch.tensor(probs).log(), paths, n, generator)
    counts = torch.zeros(len(copies), len(probs[0]), dtype=torch.long)
    counts[row, token] = count
    return counts


def test_each_copy_of_a_path_draws_from_its_own_stratum() -> None:
    # Tokens that end where strata end are drawn as often as expected, whatever the seed; the
    # second path has fewer copies than the first, the third but one.
    probs = [[0.5, 0.25, 0.0, 0.25], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0]]
    expected = [[4, 2, 0, 2], [0, 1, 1, 0], [0, 0, 1, 0]]
    for seed in range(20):
        assert drawn_by_row(probs, [8, 2, 1], seed).tolist() == expected


@settings(max_examples=10)
@given(st.lists(st.floats(0.2, 1), min_size=2, max_size=6), st.integers(1, 9), st.integers(0, 99))
def test_counts_are_unbiased_and_no_more_variable_than_independent_ones(
    weights: list[float], copies: int, seed: int
) -> None:
    n_paths, p = 10_000, torch.tensor(weights, dtype=torch.float64) / sum(weights)
    counts = drawn_by_row([p.tolist()] * n_paths, [copies] * n_paths, seed).double()
    assert (counts.sum(1) == copies).all()
    independent = copies * p * (1 - p)
    z = (counts.mean(0) - copies * p) / (independent / n_paths).sqrt()
    assert float(z.abs().max()) < 5
    # A token spans whole strata and a part of two at most.
    assert float((counts - copies * p).abs().max()) < 2
    # 30 %: six errors of the variance of the rarest token.
    assert (counts.var(0) < independent * 1.3).all()


def extended_by_hand(truncation: Truncation) -> set[tuple[int, int]]:
    """Two paths of one position, of mass .6 and .2, and one of another, of mass 1."""
    probs = torch.tensor([[0.5, 0.4, 0.1], [0.9, 0.1, 0.0], [0.98, 0.01, 0.01]])
    mass = torch.tensor([0.6, 0.2, 1.0], dtype=torch.float64)
    index = torch.tensor([0, 0, 1])
    row, token = _most_probable(probs.log(), Paths(index, index, index, mass, mass), truncation)
    assert row.tolist() == sorted(row.tolist())
    return set(zip(row.tolist(), token.tolist(), strict=True))


def test_paths_are_kept_by_joint_mass() -> None:
    # Joint masses: .30, .24, .06 and .18, .02, 0; the other position: .98, .01, .01.
    assert extended_by_hand(Truncation("top", max_branches=1)) == {(0, 0), (2, 0)}
    assert extended_by_hand(Truncation("top", max_branches=3)) == {
        *((0, 0), (0, 1), (1, 0)),
        *((2, 0), (2, 1), (2, 2)),
    }
    # 0.7 of 0.8 is 0.56: .30 + .24 falls short, the path of .18 crosses and is kept.
    assert extended_by_hand(Truncation(nucleus=0.7)) == {(0, 0), (0, 1), (1, 0), (2, 0)}
    assert extended_by_hand(Truncation(nucleus=0.7, max_branches=2)) == {(0, 0), (0, 1), (2, 0)}
    # A path of no mass is never kept.
    assert len(extended_by_hand(Truncation(nucleus=1.0))) == 8

"""Which paths are kept at each level: the most probable ones."""

import torch

from probekit.marginalization.joint_paths import Truncation, most_probable


def extended_by_hand(truncation: Truncation) -> set[tuple[int, int]]:
    """Two paths of one position, of mass .6 and .2, and one of another, of mass 1."""
    probs = torch.tensor([[0.5, 0.4, 0.1], [0.9, 0.1, 0.0], [0.98, 0.01, 0.01]])
    mass = torch.tensor([0.6, 0.2, 1.0], dtype=torch.float64)
    row, token = most_probable(probs.log(), torch.tensor([0, 0, 1]), mass, truncation)
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

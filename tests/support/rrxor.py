"""RRXOR, a hidden Markov process of which no single token beyond the next can be foreseen."""

import torch

from probekit.pipelines.calibration.hidden_markov import HiddenMarkov


def rrxor() -> HiddenMarkov:
    """Return RRXOR: two random bits, then their exclusive or, over and over.

    States: 0 before the first bit; 1, 2 after a first bit 0, 1; 3, 4 where the xor will
    be 1, 0. Where in the cycle of three a sequence starts is random, and has to be
    inferred.

    Source: Shai et al. (2024).
    """
    transitions = torch.zeros(2, 5, 5, dtype=torch.float64)
    for first in (0, 1):
        transitions[first, 0, 1 + first] = 0.5
        for second in (0, 1):
            transitions[second, 1 + first, 3 if first != second else 4] = 0.5
    transitions[1, 3, 0] = transitions[0, 4, 0] = 1
    return HiddenMarkov(transitions)

"""Hidden Markov processes: hand values, brute force, frequencies, and a probe at the optimum."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from probekit.data.blocks import Blocks
from probekit.data.targets import Targets, text_targets
from probekit.errors import DataError
from probekit.models.anatomy import Anatomy
from probekit.pipelines.calibration.hidden_markov import HiddenMarkov, mess3
from probekit.probes import linear
from probekit.readout import Seen
from support.rrxor import rrxor

PROCESSES = {"mess3": mess3, "rrxor": rrxor}


def drawn(process: HiddenMarkov, n: int, length: int, seed: int) -> Tensor:
    return process.sample(n, length, torch.Generator().manual_seed(seed))


def random_process(seed: int, n_tokens: int, n_states: int) -> HiddenMarkov:
    draw = torch.Generator().manual_seed(seed)
    matrices = torch.rand(n_tokens, n_states, n_states, dtype=torch.float64, generator=draw)
    return HiddenMarkov(matrices / matrices.sum(dim=(0, 2))[None, :, None])


def probability(process: HiddenMarkov, word: tuple[int, ...]) -> float:
    """Return P(word) from the definition: the stationary sum over all paths of states."""
    weights = process.stationary
    for token in word:
        weights = weights @ process.transitions[token]
    return float(weights.sum())


def reachable(process: HiddenMarkov) -> list[Tensor]:
    """Return every belief there is, the one before the first token included."""
    found, new = [process.stationary], [process.stationary]
    while new:
        grown = []
        for belief, matrix in itertools.product(new, process.transitions):
            joint = belief @ matrix
            if joint.sum() > 0:
                after = joint / joint.sum()
                if not any(torch.allclose(after, other, atol=1e-9) for other in found):
                    found.append(after)
                    grown.append(after)
        new = grown
    return found


def test_mess3_has_the_matrices_of_the_paper() -> None:
    matrices = mess3().transitions
    assert matrices.diagonal(dim1=1, dim2=2).amax(dim=1).tolist() == pytest.approx([0.765] * 3)
    entries = sorted({round(float(entry), 6) for entry in matrices.flatten()})
    assert entries == [0.00375, 0.0425, 0.0675, 0.765]
    torch.testing.assert_close(mess3().stationary, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_a_belief_worked_by_hand() -> None:
    # From 1/3 everywhere token 0 leaves the column sums of T(0), 0.85, 0.075 and 0.075.
    belief = mess3().beliefs(torch.tensor([[0]]))[0, 0]
    assert belief.tolist() == pytest.approx([0.85, 0.075, 0.075])
    # In one more step S mixes in 0.05 from each other state; the token shows it by 0.85.
    after = 0.85 * 0.9 + 0.15 * 0.05
    shown = after * 0.85 + (1 - after) * 0.075
    assert float(mess3().future(belief, 1)[0]) == pytest.approx(shown)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("offset", [1, 2, 3])
def test_the_future_is_the_sum_over_all_strings_between(name: str, offset: int) -> None:
    process = PROCESSES[name]()
    tokens = range(process.n_tokens)
    for past in drawn(process, 6, 4, seed=offset).tolist():
        belief = process.beliefs(torch.tensor([past]))[0, -1]
        of_past = probability(process, tuple(past))
        for token in tokens:
            summed = sum(
                probability(process, (*past, *between, token))
                for between in itertools.product(tokens, repeat=offset - 1)
            )
            found = float(process.future(belief, offset)[token])
            assert found == pytest.approx(summed / of_past, abs=1e-12)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_beliefs_and_futures_are_distributions_and_the_stationary_one_stays(
    seed: int, n_tokens: int, n_states: int, offset: int
) -> None:
    process = random_process(seed, n_tokens, n_states)
    still = process.stationary
    torch.testing.assert_close(still @ process.next_state, still)
    assert float(still.sum()) == pytest.approx(1)
    beliefs = process.beliefs(drawn(process, 5, 6, seed=1))
    for probs in (beliefs, process.future(beliefs, offset)):
        assert bool((probs >= 0).all())
        torch.testing.assert_close(probs.sum(dim=2), torch.ones(5, 6, dtype=torch.float64))


@pytest.mark.parametrize("name", PROCESSES)
def test_words_are_as_frequent_as_their_probability_wherever_they_stand(name: str) -> None:
    process, n = PROCESSES[name](), 40_000
    ids = drawn(process, n, 8, seed=3)
    for first in (0, 5):
        for word in itertools.product(range(process.n_tokens), repeat=3):
            hits = (ids[:, first : first + 3] == torch.tensor(word)).all(dim=1)
            expected = probability(process, word)
            # Five standard errors: one failure in a million by chance.
            slack = 5 * math.sqrt(expected * (1 - expected) / n)
            assert float(hits.double().mean()) == pytest.approx(expected, abs=slack)


def test_the_same_seed_draws_the_same_tokens() -> None:
    ids = drawn(mess3(), 3, 5, seed=0)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, drawn(mess3(), 3, 5, seed=0))
    assert not torch.equal(ids, drawn(mess3(), 3, 5, seed=1))


def test_every_third_token_of_rrxor_is_the_xor_of_the_two_before() -> None:
    ids = drawn(rrxor(), 300, 17, seed=0)
    # Of the three places where a cycle may start one fits; in 5 cycles chance fits 1 in 32.
    fits = torch.stack(
        [
            (ids[:, start : start + 15].view(-1, 5, 3).sum(dim=2) % 2 == 0).all(dim=1)
            for start in range(3)
        ]
    )
    assert bool(fits.any(dim=0).all())
    assert fits.double().mean(dim=1).tolist() == pytest.approx([0.35] * 3, abs=0.12)


def test_rrxor_has_36_beliefs_five_of_which_are_certain() -> None:
    beliefs = reachable(rrxor())
    assert len(beliefs) == 36
    assert sum(bool((belief.max() > 1 - 1e-12).item()) for belief in beliefs) == 5


def test_rrxor_says_nothing_of_a_single_token_beyond_the_next() -> None:
    # The bits of a cycle are pairwise independent: only the xor can be foreseen, by one.
    process = rrxor()
    beliefs = torch.stack(reachable(process))
    for offset in (2, 3, 7):
        torch.testing.assert_close(
            process.future(beliefs, offset), torch.full((36, 2), 0.5, dtype=torch.float64)
        )


def test_the_nats_are_those_of_the_future_at_each_position() -> None:
    process = mess3()
    ids = drawn(process, 4, 6, seed=2)
    beliefs = process.beliefs(ids)
    for offset in (1, 3):
        nats = process.nats(ids, offset)
        assert nats.shape == (4, 6 - offset)
        for row, position in itertools.product(range(4), range(6 - offset)):
            probs = process.future(beliefs[row, position], offset)
            by_hand = -math.log(float(probs[ids[row, position + offset]]))
            assert float(nats[row, position]) == pytest.approx(by_hand)


def test_the_nats_average_to_the_conditional_entropy() -> None:
    # H(x_4 | x_1 x_2), by listing all words: what the mean over samples has to approach.
    process, offset = mess3(), 2
    joint = torch.zeros(9, 3, dtype=torch.float64)
    for word in itertools.product(range(3), repeat=4):
        joint[3 * word[0] + word[1], word[3]] += probability(process, word)
    exact = -(joint * (joint / joint.sum(dim=1, keepdim=True)).log()).sum()
    nats = process.nats(drawn(process, 20_000, 4, seed=5), offset)[:, 1]
    slack = 4 * float(nats.std()) / math.sqrt(len(nats))
    assert float(nats.mean()) == pytest.approx(float(exact), abs=slack)


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (torch.eye(2), "must be float64 of shape .*got torch.float32 of shape"),
        (torch.ones(1, 1, 1), r"must be float64 of .*, got torch.float32 of shape \(1, 1, 1\)"),
        (torch.ones(2, 2, 3).double(), r"of shape \(token, state, state\), got .*\(2, 2, 3\)"),
        (torch.full((2, 1, 1), 0.4).double(), r"sum to 1 .*got .*sums \[0\.8"),
        (torch.tensor([[[1.5]], [[-0.5]]]).double(), "a least entry of -0.5"),
        (torch.full((1, 1, 1), math.nan).double(), "got a least entry of nan"),
        (torch.eye(2).double()[None], "must have one stationary distribution, got 2"),
    ],
)
def test_matrices_that_are_no_process_are_refused(matrices: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        HiddenMarkov(matrices)


def test_sequences_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match=r"token ids must be in 0\.\.1, got 0\.\.2"):
        rrxor().beliefs(torch.tensor([[0, 2]]))
    # Cycles of three that start at 0, 1 and 2 have an odd sum at positions 2, 3 and 4.
    ids = torch.tensor([[1, 0, 1, 1, 0], [1, 0, 0, 1, 0]])
    message = "sequence 1 has probability 0: token 0 at position 4 cannot follow those before it"
    with pytest.raises(DataError, match=message):
        rrxor().beliefs(ids)


def test_offsets_without_a_target_are_refused() -> None:
    with pytest.raises(DataError, match="offset must be at least 1, got 0"):
        mess3().future(mess3().stationary, 0)
    ids = torch.zeros(1, 3, dtype=torch.int64)
    for offset in (0, 3):
        with pytest.raises(DataError, match=rf"in 1\.\.2 for sequences of 3 tokens, got {offset}"):
            mess3().nats(ids, offset)


@pytest.mark.parametrize(("x", "a"), [(0.6, 0.85), (0.05, 1.2), (-0.1, 0.5)])
def test_mess3_outside_its_range_is_refused(x: float, a: float) -> None:
    with pytest.raises(DataError, match="transitions must be at least 0"):
        mess3(x, a)


HORIZON = 3


def believed(n: int, seed: int, reading: str) -> tuple[Seen, Targets]:
    """Return sequences of mess3 whose residual stream is what can be known."""
    process, length = mess3(), 20
    ids = drawn(process, n, length, seed)
    beliefs = process.beliefs(ids)
    # Layer k is for offset k; of the beliefs themselves all are the same.
    resid = {
        k: beliefs if reading == "belief" else process.future(beliefs, k).log()
        for k in range(1, HORIZON + 1)
    }
    documents = torch.arange(n)[:, None].repeat(1, length)
    seen = Seen(ids, {k: x.float() for k, x in resid.items()})
    return seen, text_targets(Blocks(ids, documents), HORIZON)


@pytest.mark.parametrize(
    ("reading", "allowed_nats"), [("belief", 0.002), ("log prediction", 0.0002)]
)
def test_a_probe_on_the_exact_belief_reaches_the_best_cross_entropy(
    reading: str, allowed_nats: float
) -> None:
    """The difference is taken on the same held-out sequences, so it has little noise.

    A softmax of a linear map of the belief is not quite a linear map of the belief: that,
    not the fit, costs a plain probe about 0.001 nats. On the logarithm of the prediction
    the family holds the truth, and nothing but the fit is left.
    """
    eye = nn.Linear(3, 3, bias=False)
    eye.weight.data = torch.eye(3)
    head = Anatomy(nn.Identity(), (nn.Identity(),) * HORIZON, (), eye, d_model=3)
    (train, wanted), (validation, chosen) = believed(1500, 0, reading), believed(500, 1, reading)
    seen, targets = believed(2000, 2, reading)
    layers = range(1, HORIZON + 1)
    probes = linear.fit(
        ([train], wanted), ([validation], chosen), head, layers, tolerance_nats=1e-5
    )
    found = {
        cell.layer: logits
        for cell, logits in probes.predict(seen, targets.valid)
        if cell.layer == cell.offset
    }
    assert set(found) == set(layers)
    for k, logits in found.items():
        tokens = targets.ids[k][targets.valid[k]]
        nats = nn.functional.cross_entropy(logits.double(), tokens)
        best = mess3().nats(seen.token_ids, k).mean()
        assert float(nats - best) == pytest.approx(0, abs=allowed_nats)


def test_states_that_are_left_for_ever_have_no_weight() -> None:
    for seed in range(20):
        process = random_process(seed, 2, 3)
        left = torch.zeros(2, 5, 5, dtype=torch.float64)
        left[:, :3, :3] = process.transitions
        left[:, 3:, :3] = process.transitions[:, :2]  # two states that nothing leads to
        stationary = HiddenMarkov(left).stationary
        assert stationary[3:].tolist() == pytest.approx([0, 0], abs=1e-12)
        assert bool((stationary >= 0).all())

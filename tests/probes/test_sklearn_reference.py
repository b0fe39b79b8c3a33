"""Logistic regression on the frequent targets: a distribution over all tokens, signal, noise."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from probekit.data.targets import Targets
from probekit.errors import DataError
from probekit.models.anatomy import Anatomy
from probekit.probes import linear, sklearn_reference
from probekit.probes.files import read_probes, write_probes
from probekit.probes.probe import FORMS, Examples, Probe
from probekit.readout import Seen

VOCABULARY, HIDDEN, LENGTH = 9, 4, 12
# Four tokens that are ever seen, 7 more often than 2, 2 more often than 5 and 0.
SHARES = torch.tensor([0.1, 0, 0.3, 0, 0, 0.1, 0, 0.5, 0])


def anatomy() -> Anatomy:
    """Return the head of a model of two blocks without final norm."""
    unembedding = nn.Linear(HIDDEN, VOCABULARY, bias=False)
    return Anatomy(nn.Identity(), (nn.Identity(), nn.Identity()), (), unembedding, HIDDEN)


def part(n_blocks: int, seed: int, shares: Tensor = SHARES) -> Examples:
    """Return two batches whose layer 1 holds the token at t + 2, off centre, layer 2 noise."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.multinomial(shares, n_blocks * LENGTH, replacement=True, generator=draw)
    ids = ids.view(n_blocks, LENGTH)
    codes = torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, n_blocks, LENGTH, HIDDEN, generator=draw)
    spread = torch.tensor([0.01, 1.0, 10.0, 0.0])
    resid = {1: 5 + spread * (codes[ids.roll(-2, dims=1)] + 0.5 * noise[0]), 2: noise[1]}
    ends = ((0, 1), (1, n_blocks))
    batches = [Seen(ids[a:b], {k: x[a:b] for k, x in resid.items()}, a) for a, b in ends]
    valid = torch.zeros_like(ids, dtype=torch.bool)
    valid[:, :-2] = True
    return batches, Targets("text", {2: ids.roll(-2, dims=1)}, {2: valid})


HEAD, TRAIN, VALIDATION, TEST = anatomy(), part(30, 0), part(15, 1), part(40, 2)


def pairs(of: Examples, layer: int) -> tuple[Tensor, Tensor]:
    z = torch.cat([seen.resid[layer] for seen in of[0]])
    valid = of[1].valid[2]
    return z[valid], of[1].ids[2][valid]


def held_out(probe: Probe, of: Examples, layer: int) -> float:
    z, wanted = pairs(of, layer)
    logits = FORMS["sklearn"](probe.tensors, z, z)
    return float(nn.functional.cross_entropy(logits, wanted))


def unigram_nats(of: Examples) -> float:
    _, wanted = pairs(of, 1)
    return float(-SHARES.log()[wanted].mean())


def test_a_planted_token_is_found_and_noise_gives_no_more_than_the_unigram() -> None:
    found = sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1, 2])
    assert set(found.probes) == {(1, 2), (2, 2)}
    assert held_out(found.probes[1, 2], TEST, 1) < unigram_nats(TEST) - 0.4
    assert held_out(found.probes[2, 2], TEST, 2) == pytest.approx(unigram_nats(TEST), abs=0.05)


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 100])
def test_every_token_has_a_probability_and_they_sum_to_one(n_tokens: int) -> None:
    probe = sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1], n_tokens).probes[1, 2]
    # The rarest of the four types that were seen stands among the others.
    n_frequent = min(n_tokens, 3)
    assert probe.tensors["tokens"].tolist()[:2] == [7, 2][:n_frequent]
    assert probe.tensors["A"].shape == (n_frequent + 1, HIDDEN)
    z, _ = pairs(TEST, 1)
    logits = FORMS["sklearn"](probe.tensors, z, z)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.exp().sum(dim=1), torch.ones(len(z)))


def test_where_every_token_is_seen_nothing_is_left_over() -> None:
    train = part(30, 0, torch.ones(VOCABULARY))
    probe = sklearn_reference.fit(train, train, HEAD, [1]).probes[1, 2]
    assert len(probe.tensors["tokens"]) == VOCABULARY - 1
    z, _ = pairs(train, 1)
    total = FORMS["sklearn"](probe.tensors, z, z).exp().sum(dim=1)
    torch.testing.assert_close(total, torch.ones(len(z)))


def test_the_last_class_is_shared_by_counts_with_one_pseudo_count() -> None:
    counts = torch.tensor([1, 4, 0, 6])
    tokens, rest = sklearn_reference._classes(counts, n_tokens=1)
    assert tokens.tolist() == [3]
    expected = torch.tensor([1.25, 4.25, 0.25]) / 5.75
    torch.testing.assert_close(rest[:3].exp(), expected)


@pytest.mark.parametrize("n_tokens", [1, 3])
def test_it_is_the_pipeline_of_scikit_learn(n_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sklearn_reference, "STRENGTHS", (0.01,))
    probe = sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1], n_tokens).probes[1, 2]
    assert probe.penalty == 100
    z, wanted = pairs(TRAIN, 1)
    order = probe.tensors["tokens"].tolist()
    classes = [order.index(t) if t in order else n_tokens for t in wanted.tolist()]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    pipeline.fit(z.double().numpy(), classes)
    held, _ = pairs(TEST, 1)
    expected = torch.from_numpy(pipeline.predict_proba(held.double().numpy())).float()
    found = FORMS["sklearn"](probe.tensors, held, held)[:, probe.tensors["tokens"]].exp()
    torch.testing.assert_close(found, expected[:, :-1], atol=2e-3, rtol=0)


def test_validation_chooses_the_strength_by_all_tokens() -> None:
    [chosen] = sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1]).probes.values()
    assert chosen.validation_nats == pytest.approx(held_out(chosen, VALIDATION, 1), abs=1e-5)
    assert chosen.excess_nats is None
    tried = []
    for strength in sklearn_reference.STRENGTHS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sklearn_reference, "STRENGTHS", (strength,))
            tried.append(sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1]).probes[1, 2])
    best = min(tried, key=lambda probe: held_out(probe, VALIDATION, 1))
    assert chosen.penalty == best.penalty


def test_a_fit_that_scikit_learn_warns_of_has_not_converged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1]).probes[1, 2].converged
    monkeypatch.setattr(sklearn_reference, "MOST_ITERATIONS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        assert not sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1]).probes[1, 2].converged


def test_as_many_classes_as_tokens_are_as_good_as_the_linear_probe() -> None:
    # A square unembedding, so that the linear probe is free too.
    identity = replace(HEAD, output_embeddings=nn.Linear(HIDDEN, VOCABULARY, bias=False))
    identity.output_embeddings.weight.data = torch.randn(
        VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(1)
    )
    straight = linear.fit(TRAIN, VALIDATION, identity, [1, 2]).probes[1, 2]
    z, wanted = pairs(TEST, 1)
    hidden = z @ straight.tensors["A"].T + straight.tensors["b"]
    logits = hidden @ identity.unembedding.T + straight.tensors["c"]
    of_linear = float(nn.functional.cross_entropy(logits, wanted))
    found = sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1]).probes[1, 2]
    assert held_out(found, TEST, 1) == pytest.approx(of_linear, abs=0.1)


def test_saved_and_loaded_probes_predict_the_same(tmp_path: Path) -> None:
    before, path = (
        sklearn_reference.fit(TRAIN, VALIDATION, HEAD, [1]),
        tmp_path / "probes.safetensors",
    )
    write_probes(before, path, {"model_fingerprint": "abc"})
    after = read_probes(path, HEAD, "abc")
    [seen, *_] = TEST[0]
    valid = {2: TEST[1].valid[2][:1]}
    [(cell, logits)], [(_, expected)] = (list(x.predict(seen, valid)) for x in (after, before))
    assert cell.readout == "sklearn"
    assert torch.equal(logits, expected)
    # A and c of four classes; ids of three tokens; the share of each token.
    assert after.probes[1, 2].n_parameters == 4 * HIDDEN + 4 + 3 + VOCABULARY


def test_what_cannot_be_fitted_is_an_error() -> None:
    only = part(3, 0, torch.eye(VOCABULARY)[4])
    with pytest.raises(DataError, match="needs two kinds of training target at least, got 1"):
        sklearn_reference.fit(only, VALIDATION, HEAD, [1])
    nowhere = VALIDATION[1].at(torch.zeros_like(VALIDATION[1].valid[2]))
    with pytest.raises(DataError, match="validation has no position with a target at offset 2"):
        sklearn_reference.fit(TRAIN, (VALIDATION[0], nowhere), HEAD, [1])

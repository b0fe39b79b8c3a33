"""Linear probes: certified minima, planted signal, noise, and what validation chooses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from probekit.data.targets import Targets
from probekit.errors import DataError
from probekit.probes import linear
from probekit.probes.convex.affine_objective import AffineObjective
from probekit.probes.convex.cell_fit import CellFit
from probekit.probes.moments import Moments
from probekit.probes.probe import Examples, Probe, Probes
from probekit.readout import Seen
from support.heads import head_of
from support.planted_parts import IDENTITY, LENGTH, VOCABULARY, pairs, part

LAYERS = (0, 1, 2)


TRAIN, VALIDATION, TEST = part(60, 0), part(20, 1), part(30, 2)


@pytest.fixture(scope="module")
def fitted() -> Probes:
    return linear.fit(TRAIN, VALIDATION, IDENTITY, LAYERS)


def held_out(probes: Probes, of: Examples, layer: int, offset: int) -> float:
    z, wanted = pairs(of, layer, offset)
    probe = probes.probes[layer, offset]
    hidden = z @ probe.tensors["A"].T + probe.tensors["b"]
    logits = hidden @ probes.anatomy.unembedding.T + probe.tensors["c"]
    return float(nn.functional.cross_entropy(logits, wanted))


def objective_of(layer: int, offset: int) -> AffineObjective:
    """Return the starting point of a cell, from moments of all pairs at once."""
    z, _ = pairs(TRAIN, layer, offset)
    last = torch.cat([seen.resid[2] for seen in TRAIN[0]])
    moments = Moments()
    moments.update(z, last[:, offset - 1 :][TRAIN[1].valid[offset][:, : LENGTH - offset + 1]])
    return AffineObjective(
        moments, IDENTITY.unembedding, torch.zeros(VOCABULARY), as_lens=(layer, offset) == (2, 1)
    )


def training_value(slope: Tensor, bias: Tensor, cell: tuple[int, int], penalty: float) -> Tensor:
    """Return the objective in float64, from its definition."""
    objective = objective_of(*cell)
    z, wanted = (x.double() if x.is_floating_point() else x for x in pairs(TRAIN, *cell))
    hidden = (z - z.mean(dim=0)) @ slope.T + objective.start.shift.double()
    moved = slope - objective.start.slope.double()
    nats = nn.functional.cross_entropy(hidden + bias, wanted)
    pull = penalty * torch.trace(moved @ objective.covariance.double() @ moved.T)
    return nats + pull + bias.square().sum() / (2 * len(z))


def least_value(cell: tuple[int, int], penalty: float) -> float:
    slope = objective_of(*cell).start.slope.double().requires_grad_()
    bias = torch.zeros(VOCABULARY, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [slope, bias], max_iter=300, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        value = training_value(slope, bias, cell, penalty)
        value.backward()
        return value

    solver.step(closure)
    return training_value(slope, bias, cell, penalty).item()


def test_every_cell_is_at_its_minimum_and_says_how_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What the descent found is looked at, whatever validation prefers.
    monkeypatch.setattr(CellFit, "probe", keep_the_minimum)
    found = linear.fit(TRAIN, VALIDATION, IDENTITY, LAYERS)
    assert len(found.probes) == 6
    for (layer, offset), probe in found.probes.items():
        assert layer is not None
        assert probe.excess_nats is not None
        cell = layer, offset
        at = probe.tensors["A"].double(), probe.tensors["c"].double()
        value = training_value(*at, cell, probe.penalty)
        true = float(value) - least_value(cell, probe.penalty)
        assert true <= 0.01
        assert probe.converged
        assert probe.excess_nats <= linear.TOLERANCE_NATS
        # Honest: the estimate may be off by a factor, not by orders of magnitude.
        # With products in float32, on a CPU that has no others, 4.03 was seen.
        assert true <= 5 * probe.excess_nats + 1e-4


choose = CellFit.probe


def keep_the_minimum(fit: CellFit, scores: dict[str, float]) -> Probe:
    return choose(fit, {"minimum": scores["minimum"]})


def test_with_an_identity_unembedding_it_is_the_logistic_regression_of_scikit_learn(
    fitted: Probes,
) -> None:
    for cell in ((1, 2), (2, 1)):
        x, y = (t.numpy() for t in pairs(TRAIN, *cell))
        held_x, held_y = (t.numpy() for t in pairs(TEST, *cell))
        # Both have a penalty that validation or the test itself likes best.
        best = np.inf
        for strength in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
            reference = LogisticRegression(C=strength, max_iter=300).fit(x, y)
            log_probs = log_softmax(reference.decision_function(held_x), axis=1)
            best = min(best, -log_probs[np.arange(len(held_y)), held_y].mean())
        # With products in float32, on a CPU that has no others, 0.026 was seen.
        assert held_out(fitted, TEST, *cell) <= best + 0.03


def test_a_token_planted_in_one_layer_is_found_there_and_nowhere_else(
    fitted: Probes,
) -> None:
    chance = np.log(VOCABULARY)
    assert held_out(fitted, TEST, 1, 2) < chance - 0.5
    for cell in ((0, 1), (0, 2), (1, 1), (2, 2)):
        assert held_out(fitted, TEST, *cell) == pytest.approx(chance, abs=0.06)
    assert held_out(fitted, TEST, 2, 1) < chance - 1


def test_random_labels_give_no_information() -> None:
    draw = torch.Generator().manual_seed(7)

    def shuffled(of: Examples) -> Examples:
        targets = of[1]
        ids = {
            k: torch.randint(VOCABULARY, x.shape, generator=draw) for k, x in targets.ids.items()
        }
        return of[0], replace(targets, ids=ids)

    noise = linear.fit(shuffled(TRAIN), shuffled(VALIDATION), IDENTITY, [1])
    nats = held_out(noise, shuffled(TEST), 1, 2)
    assert nats == pytest.approx(np.log(VOCABULARY), abs=0.06)


def test_the_probe_of_the_last_layer_is_never_worse_than_the_lens_on_validation(
    fitted: Probes,
) -> None:
    for layer, offset in fitted.probes:
        assert layer is not None
        z, wanted = pairs(VALIDATION, layer, offset)
        lens = float(nn.functional.cross_entropy(IDENTITY.decode(z), wanted))
        probe = fitted.probes[layer, offset]
        # The fit may have taken its products in bfloat16.
        assert probe.validation_nats <= lens + 1e-3
        own = held_out(fitted, VALIDATION, layer, offset)
        assert probe.validation_nats == pytest.approx(own, abs=1e-3)


def test_validation_keeps_the_lens_where_the_model_is_already_right() -> None:
    # The next token is drawn from the model's own softmax: nothing can be learned.
    def drawn(n_blocks: int, seed: int) -> Examples:
        draw = torch.Generator().manual_seed(seed)
        resid = 2 * torch.randn(n_blocks, LENGTH, VOCABULARY, generator=draw)
        probs = resid.softmax(dim=2).view(-1, VOCABULARY)
        ids = torch.multinomial(probs, 1, generator=draw).view(n_blocks, LENGTH)
        valid = torch.ones_like(ids, dtype=torch.bool)
        return [Seen(ids, {2: resid})], Targets("text", {1: ids}, {1: valid})

    found = linear.fit(drawn(4, 0), drawn(40, 1), IDENTITY, [2]).probes[2, 1]
    assert found.chosen in ("lens", "start")  # which here are the same point
    torch.testing.assert_close(found.tensors["A"], torch.eye(VOCABULARY))
    torch.testing.assert_close(found.tensors["b"], torch.zeros(VOCABULARY), atol=1e-5, rtol=0)
    assert torch.equal(found.tensors["c"], torch.zeros(VOCABULARY))


def test_what_the_fit_learned_is_called_the_minimum(fitted: Probes) -> None:
    assert fitted.probes[1, 2].chosen == "minimum"
    assert fitted.layers == frozenset(LAYERS)


def test_unembedding_bias_and_scale_are_the_models() -> None:
    draw = torch.Generator().manual_seed(5)
    weight = torch.randn(VOCABULARY, VOCABULARY, generator=draw)
    anatomy = replace(head_of(weight, torch.randn(VOCABULARY, generator=draw)), scale=0.25)
    found = linear.fit(TRAIN, VALIDATION, anatomy, [2])
    z, wanted = pairs(VALIDATION, 2, 1)
    lens = float(nn.functional.cross_entropy(anatomy.decode(z), wanted))
    assert found.probes[2, 1].validation_nats < lens
    seen = next(iter(TEST[0]))
    valid = torch.zeros_like(seen.token_ids, dtype=torch.bool)
    valid[0, 0] = True
    assert anatomy.bias is not None
    identity = {"A": torch.eye(VOCABULARY), "b": torch.zeros(VOCABULARY), "c": anatomy.bias / 4}
    start = replace(found.probes[2, 1], tensors=identity)
    [(_, logits)] = replace(found, probes={(2, 1): start}).predict(seen, {1: valid})
    torch.testing.assert_close(logits[0], anatomy.decode(seen.resid[2][0, 0]))


def test_no_graph_of_the_models_own_parameters_is_kept() -> None:
    norm = nn.RMSNorm(VOCABULARY)
    assert norm.weight.requires_grad
    found = linear.fit(TRAIN, VALIDATION, replace(IDENTITY, final=(norm,)), [2])
    assert not found.probes[2, 1].tensors["A"].requires_grad


def test_batches_do_not_matter() -> None:
    batches, targets = TRAIN
    ids = torch.cat([seen.token_ids for seen in batches])
    resid = {1: torch.cat([seen.resid[1] for seen in batches])}
    resid[2] = torch.cat([seen.resid[2] for seen in batches])
    whole = linear.fit(([Seen(ids, resid)], targets), VALIDATION, IDENTITY, [1])
    halves = linear.fit(TRAIN, VALIDATION, IDENTITY, [1])
    for key, probe in whole.probes.items():
        torch.testing.assert_close(
            halves.probes[key].tensors["A"], probe.tensors["A"], atol=2e-3, rtol=0
        )
        torch.testing.assert_close(
            halves.probes[key].tensors["c"], probe.tensors["c"], atol=2e-3, rtol=0
        )


def test_at_another_site_the_start_comes_from_the_stream_of_finals() -> None:
    # The other site calls its last layer 2 too; the final layer is that of `finals`.
    batches, targets = TRAIN
    elsewhere = [replace(seen, resid={1: seen.resid[1], 2: seen.resid[0]}) for seen in batches]
    own = linear.fit(TRAIN, VALIDATION, IDENTITY, [1]).probes[1, 2]
    found = linear.fit((elsewhere, targets), VALIDATION, IDENTITY, [1], finals=batches)
    torch.testing.assert_close(found.probes[1, 2].tensors["A"], own.tensors["A"])


def test_the_moments_of_no_position_are_an_error() -> None:
    batches, targets = TRAIN
    nowhere = targets.at(torch.zeros_like(targets.valid[1]))
    with pytest.raises(DataError, match="moments of no data"):
        linear.fit((batches, nowhere), VALIDATION, IDENTITY, [1])


@pytest.mark.parametrize("family", ["linear", "linear-full"])
def test_a_probe_of_nothing_is_the_unigram(family: str) -> None:
    # Rows as far apart as those of a model that rules tokens out: any start is a bad one.
    draw = torch.Generator().manual_seed(3)
    anatomy = head_of(30 * torch.randn(VOCABULARY, VOCABULARY, generator=draw), None)
    weights = torch.arange(1.0, VOCABULARY + 1).square()

    def drawn(n_blocks: int) -> Examples:
        resid = torch.randn(n_blocks, LENGTH, VOCABULARY, generator=draw)
        ids = torch.multinomial(weights, n_blocks * LENGTH, True, generator=draw)
        ids = ids.view(n_blocks, LENGTH)
        valid = torch.ones_like(ids, dtype=torch.bool)
        return [Seen(ids, {1: resid, 2: resid})], Targets("text", {1: ids}, {1: valid})

    train, validation = drawn(20), drawn(20)
    found = linear.fit(train, validation, anatomy, [1], family=family).probes[1, 1]
    counts = train[1].ids[1].flatten().bincount(minlength=VOCABULARY) + 1 / VOCABULARY
    unigram = (counts / counts.sum()).log()
    best = float(-unigram[validation[1].ids[1]].mean())
    assert found.validation_nats <= best + 1e-3
    assert found.chosen == "unigram"
    if family == "linear":
        logits = anatomy.unembedding @ found.tensors["b"] + found.tensors["c"]
        torch.testing.assert_close(logits.log_softmax(0), unigram, atol=1e-2, rtol=0)
        assert not found.tensors["A"].any()

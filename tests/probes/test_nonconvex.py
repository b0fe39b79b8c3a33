"""Trained probes: their start, planted signal, noise, what stops them, and who is left alone."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from probekit.data.targets import Targets
from probekit.errors import DataError, SettingsError
from probekit.models.anatomy import Anatomy
from probekit.probes import linear, nonconvex, nonconvex_families
from probekit.probes.convex.affine_objective import RIDGE
from probekit.probes.files import read_probes, write_probes
from probekit.probes.probe import Examples, Probes
from probekit.readout import Seen
from probekit.scoring import losses
from support.heads import head_of
from support.planted_parts import IDENTITY, LENGTH, VOCABULARY, in_two, logits_of, pairs, part

HIDDEN = 8
FAMILIES = tuple(nonconvex_families.FAMILIES)
CHANCE = math.log(VOCABULARY)
TRAIN, VALIDATION, TEST = part(60, 0), part(30, 1), part(60, 2)


@pytest.fixture(scope="module", params=FAMILIES)
def fitted(request: pytest.FixtureRequest) -> Probes:
    return nonconvex.fit(TRAIN, VALIDATION, IDENTITY, [0, 1, 2], request.param, seed=0)


def held_out(found: Probes, of: Examples, layer: int, offset: int) -> float:
    _, wanted = pairs(of, layer, offset)
    return float(nn.functional.cross_entropy(logits_of(found, of, layer, offset), wanted))


def start_of(family: str, anatomy: Anatomy, monkeypatch: pytest.MonkeyPatch) -> Probes:
    monkeypatch.setattr(nonconvex, "MOST_EPOCHS", 0)
    return nonconvex.fit(TRAIN, VALIDATION, anatomy, [1, 2], family, seed=0)


def test_a_token_planted_in_one_layer_is_found_there_and_nowhere_else(fitted: Probes) -> None:
    assert len(fitted.probes) == 6
    assert held_out(fitted, TEST, 1, 2) < CHANCE - 0.5
    assert held_out(fitted, TEST, 2, 1) < CHANCE - 1
    for cell in ((0, 1), (0, 2), (1, 1), (2, 2)):
        # Chance, and no more: nothing learned by heart.
        assert held_out(fitted, TEST, *cell) == pytest.approx(CHANCE, abs=0.06)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_labels_give_no_information(family: str) -> None:
    draw = torch.Generator().manual_seed(7)

    def shuffled(of: Examples) -> Examples:
        ids = {k: torch.randint(12, x.shape, generator=draw) for k, x in of[1].ids.items()}
        return of[0], replace(of[1], ids=ids)

    found = nonconvex.fit(shuffled(TRAIN), shuffled(VALIDATION), IDENTITY, [1], family, seed=0)
    assert found.probes[1, 2].converged
    assert held_out(found, shuffled(TEST), 1, 2) == pytest.approx(CHANCE, abs=0.06)


def test_what_validation_liked_best_is_kept(fitted: Probes) -> None:
    for (layer, offset), probe in fitted.probes.items():
        assert layer is not None
        # The fit may have taken its products in bfloat16.
        own = held_out(fitted, VALIDATION, layer, offset)
        assert probe.validation_nats == pytest.approx(own, abs=2e-3)
    found = fitted.probes[1, 2]
    assert found.chosen == "trained"
    assert found.excess_nats is None
    assert found.penalty == nonconvex.DECAY


def test_training_beats_the_start_on_text_that_nobody_saw(
    fitted: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = start_of(fitted.family, IDENTITY, monkeypatch)
    assert held_out(fitted, TEST, 1, 2) < held_out(start, TEST, 1, 2) - 0.05


def signs(n_blocks: int, seed: int) -> Examples:
    """Return text whose next token is told by the product of two coordinates' signs."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(n_blocks, LENGTH, 4, generator=draw)
    ids = (z[..., 0] * z[..., 1] > 0).long()
    valid = torch.ones_like(ids, dtype=torch.bool)
    return in_two(ids, {1: z, 2: z}), Targets("text", {1: ids}, {1: valid})


def test_the_mlp_finds_what_no_linear_probe_can() -> None:
    anatomy = head_of(torch.eye(4))
    known, held, test = signs(150, 0), signs(50, 1), signs(100, 2)
    straight = linear.fit(known, held, anatomy, [1])
    bent = nonconvex.fit(known, held, anatomy, [1], "mlp", seed=0)
    assert held_out(straight, test, 1, 1) > math.log(2) - 0.01
    assert held_out(bent, test, 1, 1) < math.log(2) - 0.15


def test_at_full_rank_the_low_rank_is_as_good_as_the_linear_probe() -> None:
    low = nonconvex.fit(TRAIN, VALIDATION, IDENTITY, [1, 2], "linear-lowrank", seed=0)
    straight = linear.fit(TRAIN, VALIDATION, IDENTITY, [1, 2])
    for cell in ((1, 2), (2, 1)):
        reached = held_out(low, TEST, *cell)
        # The decay is stronger than the penalty that validation gives the linear probe.
        assert reached == pytest.approx(held_out(straight, TEST, *cell), abs=0.08)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_an_epoch_the_last_layer_is_decoded_as_the_model_does(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(5)
    weight = torch.randn(VOCABULARY, VOCABULARY, generator=draw)
    anatomy = replace(head_of(weight, torch.randn(VOCABULARY, generator=draw)), scale=0.25)
    start = start_of(family, anatomy, monkeypatch)
    assert start.probes[2, 1].chosen == "start"
    assert start.n_passes == 1
    z, _ = pairs(TEST, 2, 1)
    found, model = (x.log_softmax(dim=1) for x in (logits_of(start, TEST, 2, 1), anatomy.decode(z)))
    torch.testing.assert_close(found, model, atol=1e-4, rtol=0)


def test_without_an_epoch_the_mlp_is_the_ridge_regression_of_scikit_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = start_of("mlp", IDENTITY, monkeypatch).probes[1, 2]
    assert not start.tensors["W"].any()
    z, _ = pairs(TRAIN, 1, 2)
    last = torch.cat([seen.resid[2] for seen in TRAIN[0]])[:, 1:-1].reshape(-1, VOCABULARY)
    penalty = RIDGE * float(z.var(dim=0, correction=0).mean()) * len(z)
    reference = Ridge(alpha=penalty).fit(z.double().numpy(), last.double().numpy())
    found = start.tensors["A"].numpy(), start.tensors["b"].numpy()
    np.testing.assert_allclose(found[0], reference.coef_, atol=1e-4)
    np.testing.assert_allclose(found[1], reference.intercept_, atol=1e-4)


def test_the_low_rank_starts_where_it_loses_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonconvex_families, "RANK", 3)
    monkeypatch.setattr(nonconvex_families, "DAMPING", 1e-9)
    weight = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(3))
    start = start_of("linear-lowrank", head_of(weight), monkeypatch)
    tensors = start.probes[2, 1].tensors
    assert torch.linalg.matrix_rank(tensors["B"] @ tensors["A"]) == 3
    z, _ = pairs(TRAIN, 2, 1)
    whole, cut = ((x - x.mean(dim=0)) for x in (z @ weight.T, logits_of(start, TRAIN, 2, 1)))
    whole = whole - whole.mean(dim=1, keepdim=True)
    # Eckart & Young: what is lost is what the smaller singular values hold.
    lost = torch.linalg.svdvals(whole)[3:].square().sum()
    torch.testing.assert_close((whole - cut).square().sum(), lost, rtol=1e-3, atol=0)


def test_a_model_that_is_already_right_is_left_at_the_start() -> None:
    # The next token is drawn from the model's own softmax: nothing can be learned.
    def drawn(n_blocks: int, seed: int) -> Examples:
        draw = torch.Generator().manual_seed(seed)
        resid = 2 * torch.randn(n_blocks, LENGTH, VOCABULARY, generator=draw)
        probs = resid.softmax(dim=2).view(-1, VOCABULARY)
        ids = torch.multinomial(probs, 1, generator=draw).view(n_blocks, LENGTH)
        return [Seen(ids, {2: resid})], Targets("text", {1: ids}, {1: torch.ones_like(ids) > 0})

    found = nonconvex.fit(drawn(4, 0), drawn(40, 1), IDENTITY, [2], "mlp", seed=0)
    probe = found.probes[2, 1]
    assert probe.chosen == "start"
    assert probe.converged
    # The start, and as many epochs as patience has.
    assert found.n_passes == 1 + nonconvex.PATIENCE
    torch.testing.assert_close(probe.tensors["A"], torch.eye(VOCABULARY))


def test_who_has_not_been_stopped_at_the_last_epoch_has_not_converged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nonconvex, "MOST_EPOCHS", 2)
    found = nonconvex.fit(TRAIN, VALIDATION, IDENTITY, [1], "mlp", seed=0)
    assert not found.probes[1, 2].converged
    assert found.n_passes == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_decides_and_the_company_does_not(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonconvex, "MOST_EPOCHS", 2)
    alone = nonconvex.fit(TRAIN, VALIDATION, IDENTITY, [1], family, seed=0).probes[1, 2]
    beside = nonconvex.fit(TRAIN, VALIDATION, IDENTITY, [0, 1], family, seed=0).probes[1, 2]
    other = nonconvex.fit(TRAIN, VALIDATION, IDENTITY, [1], family, seed=1).probes[1, 2]
    for name, tensor in alone.tensors.items():
        assert torch.equal(tensor, beside.tensors[name])
        assert not torch.equal(tensor, other.tensors[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_no_graph_is_kept_and_the_model_is_left_as_it_was(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonconvex, "MOST_EPOCHS", 2)
    norm = nn.RMSNorm(VOCABULARY)
    anatomy = replace(head_of(torch.eye(VOCABULARY)), final=(norm,))
    before = torch.random.get_rng_state()
    found = nonconvex.fit(TRAIN, VALIDATION, anatomy, [2], family, seed=0)
    assert not any(x.requires_grad for x in found.probes[2, 1].tensors.values())
    assert norm.weight.grad is None
    assert anatomy.output_embeddings.weight.grad is None
    assert torch.equal(anatomy.unembedding, torch.eye(VOCABULARY))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_saved_and_loaded_probes_predict_the_same(fitted: Probes, tmp_path: Path) -> None:
    path = tmp_path / "probes.safetensors"
    write_probes(fitted, path, {"model_fingerprint": "abc"})
    after = read_probes(path, IDENTITY, "abc")
    assert after.family == fitted.family
    torch.testing.assert_close(logits_of(after, TEST, 1, 2), logits_of(fitted, TEST, 1, 2))


@pytest.mark.parametrize(
    ("family", "number"),
    # A, W, V; b, v; c. A; B; c, of rank 3.
    [("mlp", 3 * 64 + 2 * 8 + 12), ("linear-lowrank", 3 * 8 + 12 * 3 + 12)],
)
def test_parameters_are_counted(family: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonconvex_families, "RANK", 3)
    monkeypatch.setattr(nonconvex, "MOST_EPOCHS", 1)
    batches, targets = TRAIN
    narrow = [
        replace(seen, resid={k: x[..., :HIDDEN] for k, x in seen.resid.items()}) for seen in batches
    ]
    anatomy = head_of(torch.eye(VOCABULARY)[:, :HIDDEN])
    found = nonconvex.fit((narrow, targets), (narrow, targets), anatomy, [1], family, seed=0)
    assert found.probes[1, 2].n_parameters == number


def test_the_gradient_of_a_free_output_is_that_of_autograd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Chunks of two positions, the last of one.
    monkeypatch.setattr(losses, "CHUNK_CPU", 2 * VOCABULARY)
    draw = torch.Generator().manual_seed(0)
    hidden, output, bias = (
        torch.randn(*shape, generator=draw, requires_grad=True)
        for shape in ((5, 3), (VOCABULARY, 3), (VOCABULARY,))
    )
    wanted = torch.tensor([0, 3, 3, 7, 11])
    nats = nn.functional.cross_entropy(hidden @ output.T + bias, wanted, reduction="sum")
    expected = torch.autograd.grad(nats, [hidden, output, bias])
    by_hidden, summed = nonconvex._free_output_gradient(
        hidden.detach(), output.detach(), bias.detach(), wanted
    )
    torch.testing.assert_close((by_hidden, summed["B"], summed["c"]), expected)


def test_the_steps_are_those_of_adamw_with_decay_to_the_start() -> None:
    draw = torch.Generator().manual_seed(0)
    origin, frame = torch.randn(4, generator=draw), torch.ones(1)
    cell = object.__new__(nonconvex._Fit)
    cell.n_steps, cell.origin = 0, {"c": origin}
    cell.values, cell.slopes, cell.squares = (
        {"c": x} for x in (origin.clone(), torch.zeros(4), torch.zeros(4))
    )
    moved = torch.zeros(4)
    reference = torch.optim.AdamW([moved], lr=0.1, weight_decay=nonconvex.DECAY)
    for _ in range(5):
        gradient = torch.randn(4, generator=draw) * frame
        cell._step({"c": gradient}, 0.1)
        moved.grad = gradient
        reference.step()
    torch.testing.assert_close(cell.values["c"], origin + moved)


def test_at_another_site_the_start_comes_from_the_stream_of_finals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = start_of("mlp", IDENTITY, monkeypatch)
    # The other site calls its last layer 2 too; the final layer is that of `finals`.
    batches, targets = TRAIN
    elsewhere = [replace(seen, resid={1: seen.resid[1], 2: seen.resid[0]}) for seen in batches]
    found = nonconvex.fit(
        (elsewhere, targets), VALIDATION, IDENTITY, [1, 2], "mlp", seed=0, finals=batches
    )
    torch.testing.assert_close(found.probes[1, 2].tensors["A"], own.probes[1, 2].tensors["A"])
    # Its last layer is not what the model decodes.
    assert found.probes[2, 1].tensors["A"].trace() < VOCABULARY / 2


def test_what_cannot_be_trained_is_an_error() -> None:
    with pytest.raises(SettingsError, match="family must be mlp or linear-lowrank, got 'linear'"):
        nonconvex.fit(TRAIN, VALIDATION, IDENTITY, [1], "linear", seed=0)
    nowhere = TRAIN[1].at(torch.zeros_like(TRAIN[1].valid[1]))
    with pytest.raises(DataError, match="moments of no data"):
        nonconvex.fit((TRAIN[0], nowhere), VALIDATION, IDENTITY, [1], "mlp", seed=0)
    with pytest.raises(DataError, match="validation has no position with a target at offset 1"):
        nonconvex.fit(TRAIN, (TRAIN[0], nowhere), IDENTITY, [1], "mlp", seed=0)

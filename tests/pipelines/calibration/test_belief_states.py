"""Where models of hidden Markov processes keep what can be known of the future.

A Llama trained on tokens alone comes to track the belief over hidden states. Of mess3 each
layer shows it whole. Of rrxor no layer does; all of them side by side show more than any.

Source: Shai et al. (2024), "Transformers represent belief state geometry in their residual
stream".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from probekit.activations.residual_stream import ResidualStream, stream
from probekit.data.blocks import Blocks
from probekit.data.targets import Targets, text_targets
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.pipelines.calibration.hidden_markov import HiddenMarkov, mess3
from probekit.probes import linear
from probekit.probes.probe import Probes
from probekit.scoring.intervals import document_bootstrap, interval
from support.belief_models import next_token_nats, trained
from support.rrxor import rrxor

pytestmark = pytest.mark.slow

HORIZON = 3
# The differences that are asked for are a few hundredths of a nat.
TOLERANCE_NATS = 0.0003
SEQUENCES = {"train": 2000, "validation": 500, "test": 500}
WEIGHTS = np.vstack(
    [np.ones(SEQUENCES["test"]), document_bootstrap(SEQUENCES["test"], 1000, seed=0)]
)

Rate = NDArray[np.float64]
Key = tuple[int | None, int]


@dataclass(frozen=True)
class World:
    """A process, a model trained on it, and samples; each sequence is a document."""

    process: HiddenMarkov
    model: LlamaForCausalLM
    length: int

    @cached_property
    def anatomy(self) -> Anatomy:
        return find_anatomy(self.model)

    @property
    def layers(self) -> range:
        return range(self.anatomy.n_layers + 1)

    @cached_property
    def streams(self) -> Mapping[str, ResidualStream]:
        found = {}
        for seed, (name, n) in enumerate(SEQUENCES.items(), start=1):
            ids = self.process.sample(n, self.length, torch.Generator().manual_seed(seed))
            found[name] = stream(
                self.model, self.anatomy, ids, self.layers, batch_size=n, store="memory"
            )
        return found

    def targets(self, part: str) -> Targets:
        ids = self.streams[part].token_ids
        documents = torch.arange(len(ids))[:, None].repeat(1, self.length)
        return text_targets(Blocks(ids, documents), HORIZON)

    def words(self, part: str) -> Targets:
        """Return as targets of offset 3 the next three tokens as one number, 0 to 7 or 26."""
        text, n = self.targets(part), self.process.n_tokens
        word = n**2 * text.ids[1] + n * text.ids[2] + text.ids[3]
        return Targets("words", {HORIZON: word}, {HORIZON: text.valid[HORIZON]})

    def fitted(self, family: str) -> Probes:
        train, validation = ((self.streams[p], self.targets(p)) for p in ("train", "validation"))
        return linear.fit(
            train,
            validation,
            self.anatomy,
            self.layers,
            family=family,
            tolerance_nats=TOLERANCE_NATS,
        )

    def word_probes(self, family: str) -> Probes:
        train, validation = ((self.streams[p], self.words(p)) for p in ("train", "validation"))
        head = nn.Linear(self.anatomy.d_hidden, self.process.n_tokens**HORIZON, bias=False)
        # Of full rank: no linear map to the words is out of reach.
        nn.init.orthogonal_(head.weight, generator=torch.Generator().manual_seed(0))
        return linear.fit(
            train,
            validation,
            replace(self.anatomy, output_embeddings=head),
            self.layers,
            family=family,
            tolerance_nats=TOLERANCE_NATS,
        )

    def best_nats(self, offset: int) -> Tensor:
        return self.process.nats(self.streams["test"].token_ids, offset)

    def best_word_nats(self) -> Tensor:
        ids = self.streams["test"].token_ids
        weights = self.process.beliefs(ids)[:, :-HORIZON, None]
        for k in range(1, HORIZON + 1):
            end = self.length - HORIZON + k
            weights = weights @ self.process.transitions[ids[:, k:end]]
        return -weights.sum(dim=(2, 3)).log()


def rate(of_document: Tensor, over: Tensor | float = 1.0) -> Rate:
    """Return a mean over documents (or a ratio of two), then the same of each resample."""
    below = torch.as_tensor(over, dtype=torch.float64).expand(len(of_document))
    found: Rate = (WEIGHTS @ of_document.double().numpy()) / (WEIGHTS @ below.numpy())
    return found


def ends(values: Rate) -> tuple[float, float]:
    return interval(values[1:], float(SEQUENCES["test"]))


def gaps(
    world: World, probes: Probes, targets: Targets, best: Mapping[int, Tensor]
) -> dict[Key, Rate]:
    """Return how many nats each probe misses on the test sequences."""
    (seen,) = world.streams["test"]
    found = {}
    for cell, logits in probes.predict(seen, targets.valid):
        valid = targets.valid[cell.offset]
        nats = nn.functional.cross_entropy(
            logits.detach().double(), targets.ids[cell.offset][valid], reduction="none"
        )
        missed = nats.view(len(valid), -1) - best[cell.offset]
        found[cell.layer, cell.offset] = rate(missed.mean(dim=1))
    return found


def explained(
    world: World, features: Mapping[str, list[int]], shuffled: bool = False
) -> dict[str, Rate]:
    """Return R^2 of the affine regression of the belief on layers side by side, on test.

    In float64: layers side by side are nearly collinear, and float32 then loses what is
    small.
    """
    inputs, beliefs = {}, {}
    for part in ("train", "test"):
        (seen,) = world.streams[part]
        inputs[part] = {
            name: torch.cat([seen.resid[layer] for layer in layers], dim=2).double()
            for name, layers in features.items()
        }
        beliefs[part] = world.process.beliefs(seen.token_ids)
        if shuffled:
            order = torch.randperm(len(seen.token_ids), generator=torch.Generator().manual_seed(0))
            beliefs[part] = beliefs[part][order]
    mean = beliefs["train"].mean(dim=(0, 1))
    total = (beliefs["test"] - mean).square().sum(dim=(1, 2))
    found = {}
    for name in features:
        x = inputs["train"][name].flatten(0, 1)
        centre = x.mean(dim=0)
        x = x - centre
        gram = x.T @ x
        ridge = 1e-9 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        slope = torch.linalg.solve(gram + ridge, x.T @ (beliefs["train"].flatten(0, 1) - mean))
        missed = (inputs["test"][name] - centre) @ slope + mean - beliefs["test"]
        found[name] = 1 - rate(missed.square().sum(dim=(1, 2)), total)
    return found


def token_gaps(world: World) -> dict[Key, Rate]:
    best = {k: world.best_nats(k) for k in range(1, HORIZON + 1)}
    found: dict[Key, Rate] = {}
    for family in ("linear", "concat"):
        found |= gaps(world, world.fitted(family), world.targets("test"), best)
    return found


def by_layer(world: World) -> dict[str, list[int]]:
    own = {str(layer): [layer] for layer in world.layers}
    return {**own, "concat": list(world.layers)}


def model_gap(world: World) -> Rate:
    ids = world.streams["test"].token_ids
    with torch.no_grad():
        nats = next_token_nats(world.model(ids).logits, ids)
    return rate((nats - world.best_nats(1)).mean(dim=1))


@pytest.fixture(scope="module")
def mess3_world() -> World:
    return World(mess3(), trained(mess3(), length=16, n_layers=2, steps=300), length=16)


@pytest.fixture(scope="module")
def rrxor_world() -> World:
    return World(rrxor(), trained(rrxor(), length=24, n_layers=4, steps=1200), length=24)


@pytest.fixture(scope="module")
def mess3_gaps(mess3_world: World) -> dict[Key, Rate]:
    return token_gaps(mess3_world)


@pytest.fixture(scope="module")
def rrxor_gaps(rrxor_world: World) -> dict[Key, Rate]:
    return token_gaps(rrxor_world)


@pytest.mark.parametrize("name", ["mess3", "rrxor"])
def test_a_trained_model_predicts_almost_as_well_as_one_can(
    name: str, request: pytest.FixtureRequest
) -> None:
    low, high = ends(model_gap(request.getfixturevalue(f"{name}_world")))
    assert high < 0.01
    assert low > -0.005  # nothing that sees the past alone is better than the best


def test_mess3_belief_is_an_affine_map_of_the_last_layer(mess3_world: World) -> None:
    found = explained(mess3_world, by_layer(mess3_world))
    assert ends(found["2"])[0] > 0.97
    # The current token alone, which is what layer 0 holds, shows less.
    assert ends(found["0"])[1] < 0.9


@pytest.mark.parametrize("name", ["mess3", "rrxor"])
def test_beliefs_of_other_sequences_are_read_nowhere(
    name: str, request: pytest.FixtureRequest
) -> None:
    world = request.getfixturevalue(f"{name}_world")
    for values in explained(world, by_layer(world), shuffled=True).values():
        assert ends(values)[1] < 0.01


@pytest.mark.parametrize("offset", range(1, HORIZON + 1))
def test_mess3_is_read_from_one_layer_as_well_as_one_can(
    mess3_gaps: dict[Key, Rate], offset: int
) -> None:
    assert ends(mess3_gaps[0, offset])[0] > 0.02
    for layer in (1, 2):
        assert ends(mess3_gaps[layer, offset])[1] < 0.01
        more = mess3_gaps[layer, offset] - mess3_gaps[None, offset]
        assert ends(more)[1] < 0.005  # several layers add nothing


def test_rrxor_belief_is_spread_over_layers(rrxor_world: World) -> None:
    """Layers side by side explain more of the belief than the best of them."""
    found = explained(rrxor_world, by_layer(rrxor_world))
    for layer in rrxor_world.layers:
        assert ends(found["concat"] - found[str(layer)])[0] > 0.03
    assert ends(found["concat"])[0] > 0.8


def test_rrxor_next_token_is_in_the_last_layer(rrxor_gaps: dict[Key, Rate]) -> None:
    """What training asks for is where the output reads: other layers add nothing to it."""
    assert ends(rrxor_gaps[4, 1])[1] < 0.01
    assert max(map(abs, ends(rrxor_gaps[4, 1] - rrxor_gaps[None, 1]))) < 0.005
    for layer in range(4):
        assert ends(rrxor_gaps[layer, 1] - rrxor_gaps[None, 1])[0] > 0.02


@pytest.mark.parametrize("offset", [2, 3])
def test_rrxor_holds_no_token_beyond_the_next_and_no_probe_finds_one(
    rrxor_gaps: dict[Key, Rate], offset: int
) -> None:
    """The best prediction is uniform: what a probe gains or loses here is its own noise."""
    for layer in (*range(5), None):
        assert max(map(abs, ends(rrxor_gaps[layer, offset]))) < 0.005


def test_rrxor_words_are_read_better_from_all_layers_than_from_any(rrxor_world: World) -> None:
    """Of three tokens together the belief says more than of each alone."""
    best = {HORIZON: rrxor_world.best_word_nats()}
    found: dict[Key, Rate] = {}
    for family in ("linear", "concat"):
        probes = rrxor_world.word_probes(family)
        found |= gaps(rrxor_world, probes, rrxor_world.words("test"), best)
    for layer in rrxor_world.layers:
        assert ends(found[layer, HORIZON] - found[None, HORIZON])[0] > 0.02
    assert ends(found[None, HORIZON])[0] > -0.005

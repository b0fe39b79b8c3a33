"""Online codelength: by hand, against the sequential code, planted signal and noise."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from probekit.data.targets import Targets
from probekit.errors import DataError, NumericalError
from probekit.models.anatomy import Anatomy
from probekit.probes import codelength, linear
from probekit.probes.probe import Probes
from probekit.readout import Cell, Readout, Seen

VOCABULARY = 4


@dataclass(frozen=True)
class Told:
    """A readout that gives each target the same probability, and shares out the rest."""

    targets: Targets
    probability: float
    name: str = "told"
    layers: frozenset[int] = field(default=frozenset())

    def predict(self, seen: Seen, valid: Mapping[int, Tensor]) -> Iterator[tuple[Cell, Tensor]]:
        for offset, mask in valid.items():
            wanted = self.targets.ids[offset][seen.blocks][mask]
            rest = (1 - self.probability) / (VOCABULARY - 1)
            probs = torch.full((len(wanted), VOCABULARY), rest)
            yield (
                Cell(self.name, offset),
                probs.scatter_(1, wanted[:, None], self.probability).log(),
            )


def targets_of(ids: Tensor, *masks: Tensor) -> Targets:
    """Return targets at offsets 1, 2, … that are valid in these masks."""
    valid = dict(enumerate(masks or (torch.ones_like(ids, dtype=torch.bool),), start=1))
    return Targets("text", {k: (ids + k) % VOCABULARY for k in valid}, valid)


def random_ids(*shape: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def batches(ids: Tensor, size: int) -> list[Seen]:
    return [Seen(ids[at : at + size], {}, at) for at in range(0, len(ids), size)]


def sequential_bits(tokens: list[int], vocabulary: int) -> float:
    """Send one token after another, each by what was counted before it."""
    counts, bits = np.full(vocabulary, 1 / vocabulary), 0.0
    for token in tokens:
        bits -= math.log2(counts[token] / counts.sum())
        counts[token] += 1
    return bits


def flat(ranks: Targets, offset: int) -> list[int]:
    return torch.nonzero(ranks.valid[offset].flatten())[:, 0].tolist()


def test_both_codes_are_as_by_hand() -> None:
    # Portions of 16, 16 and 32 tokens; the probe of the second gives 1/2, of the third 1/8.
    ids = random_ids(4, 16)
    targets = targets_of(ids)
    known = []

    def fit(part: Targets) -> Readout:
        known.append(int(part.valid[1].sum()))
        return Told(targets, {16: 1 / 2, 32: 1 / 8}[known[-1]])

    [row] = codelength.online(fit, batches(ids, 3), targets, VOCABULARY).to_dict("records")
    assert known == [16, 32]
    assert (row["readout"], row["offset"], row["blind"]) == ("told", 1, True)
    assert (row["n"], row["n_start"]) == (64, 16)
    assert row["uniform_bits"] == 64 * 2
    assert row["online_uniform_bits"] == pytest.approx(16 * 2 + 16 * 1 + 32 * 3, rel=1e-6)
    tokens = targets.ids[1].flatten().tolist()
    start, after_two, whole = (sequential_bits(tokens[:n], VOCABULARY) for n in (16, 32, 64))
    assert after_two - start > 16
    assert whole - after_two < 32 * 3
    assert row["unigram_bits"] == pytest.approx(whole)
    # The second portion by the probe, the third by the unigram, a bit each to say so.
    by_hand = start + (16 + 1) + (whole - after_two + 1)
    assert row["online_unigram_bits"] == pytest.approx(by_hand, rel=1e-6)
    assert row["bits_per_target"] == pytest.approx(by_hand / 64, rel=1e-6)
    assert row["compression"] == pytest.approx(128 / 144, rel=1e-6)
    assert row["compression_to_unigram"] == pytest.approx(whole / by_hand, rel=1e-6)


@settings(max_examples=20)
@given(st.integers(2, 9), st.lists(st.integers(0, 8), max_size=40))
def test_the_adaptive_unigram_is_the_sequential_code_in_any_order(
    vocabulary: int, tokens: list[int]
) -> None:
    tokens = [token % vocabulary for token in tokens]
    counts = torch.tensor(tokens, dtype=torch.long).bincount(minlength=vocabulary)
    expected = sequential_bits(tokens, vocabulary)
    assert codelength.unigram_bits(counts) == pytest.approx(expected, abs=1e-9)
    assert sequential_bits(sorted(tokens), vocabulary) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("n", "ends"),
    [
        (1000, [16, 32, 62, 125, 250, 500, 1000]),
        (16000, [16, 32, 64, 128, 256, 512, 1000, 2000, 4000, 8000, 16000]),
        (32, [16, 32]),
    ],
)
def test_portions_end_at_the_fractions_of_the_paper(n: int, ends: list[int]) -> None:
    parts = codelength.portions(targets_of(random_ids(8, n // 8)))
    sizes = [int(part.valid[1].sum()) for part in parts]
    assert np.cumsum(sizes).tolist() == ends


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_portions_hold_each_position_once_and_in_order(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, 12, 20, generator=draw) < 0.6
    order = torch.randperm(12, generator=draw)
    parts = codelength.portions(targets_of(random_ids(12, 20), *masks), order)
    for offset, mask in enumerate(masks, start=1):
        # The blocks in the order in which they are sent.
        sent = [replace(p, valid={offset: p.valid[offset][order]}) for p in parts]
        positions = [flat(part, offset) for part in sent]
        assert [i for part in positions for i in part] == torch.nonzero(mask[order].flatten())[
            :, 0
        ].tolist()
        assert all(positions)


def test_a_probe_knows_what_was_sent_and_sends_what_comes() -> None:
    ids = random_ids(10, 30)
    targets = targets_of(ids, *(torch.rand(3, 10, 30) < 0.7))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    asked: list[dict[int, Tensor]] = []

    @dataclass(frozen=True)
    class Watched(Told):
        def predict(self, seen: Seen, valid: Mapping[int, Tensor]) -> Iterator[tuple[Cell, Tensor]]:
            for offset, mask in valid.items():
                asked[-1][offset][seen.blocks] |= mask
            return super().predict(seen, valid)

    known: list[Targets] = []

    def fit(part: Targets) -> Readout:
        known.append(part)
        asked.append({k: torch.zeros_like(mask) for k, mask in part.valid.items()})
        return Watched(targets, 0.5)

    found = codelength.online(fit, batches(ids, 4), targets, VOCABULARY, order)
    portions = codelength.portions(targets, order)
    for offset, mask in targets.valid.items():
        so_far = torch.zeros_like(mask)
        for i, part in enumerate(known):
            so_far |= portions[i].valid[offset]
            assert torch.equal(part.valid[offset], so_far)
            assert torch.equal(asked[i][offset], portions[i + 1].valid[offset])
    assert found["offset"].tolist() == [1, 2, 3]
    assert found["n"].tolist() == [int(mask.sum()) for mask in targets.valid.values()]


def test_a_stream_is_read_no_further_than_there_are_targets() -> None:
    ids = random_ids(10, 4)
    mask = torch.zeros(10, 4, dtype=torch.bool)
    mask[3:7, 1] = True
    read = []

    class Stream:
        def __iter__(self) -> Iterator[Seen]:
            for seen in batches(ids, 2):
                read.append(seen.first_block)
                yield seen

    within = codelength.Within(Stream(), targets_of(ids, mask))
    for _ in range(2):
        assert [seen.first_block for seen in within] == [2, 4, 6]
    assert read == [0, 2, 4, 6] * 2


HEAD = Anatomy(nn.Identity(), (nn.Identity(),), (), nn.Linear(12, 12, bias=False), d_model=12)
HEAD.output_embeddings.weight.data = torch.eye(12)


def planted(n_blocks: int, seed: int) -> tuple[list[Seen], Targets]:
    """Return noise that holds the target, weakly at layer 0 and plainly at layer 1."""
    ids = random_ids(n_blocks, 12, seed=seed, vocabulary=12)
    noise = torch.randn(n_blocks, 12, 12, generator=torch.Generator().manual_seed(seed))
    hot = nn.functional.one_hot(ids, 12).float().roll(-1, dims=1)
    resid = {0: 0.8 * noise + hot, 1: 0.1 * noise + hot}
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[:, -1] = False
    return [Seen(ids, resid)], Targets("text", {1: ids.roll(-1, dims=1)}, {1: valid})


def code_of(train: tuple[list[Seen], Targets], held: tuple[list[Seen], Targets]) -> list[float]:
    def fit(part: Targets) -> Probes:
        stream = codelength.Within(train[0], part)
        return linear.fit((stream, part), held, HEAD, [0, 1])

    found = codelength.online(fit, *train, vocab_size=12)
    assert found["layer"].tolist() == [0, 1]
    assert (found["n"] == int(train[1].valid[1].sum())).all()
    ratios: list[float] = found["compression_to_unigram"].tolist()
    return ratios


def test_what_is_plain_to_see_is_shorter_than_what_is_not_and_noise_is_not_shorter() -> None:
    train, held = planted(40, 0), planted(10, 1)
    weak, strong = code_of(train, held)
    assert weak > 1.15
    assert strong > 2 * weak
    shuffled = [
        (
            stream,
            replace(targets, ids={1: random_ids(*targets.ids[1].shape, seed=5 + i, vocabulary=12)}),
        )
        for i, (stream, targets) in enumerate((train, held))
    ]
    for ratio in code_of(*shuffled):
        assert 0.97 < ratio < 1.01


def test_too_few_positions_are_an_error() -> None:
    ids = random_ids(1, 40)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, :31] = True
    with pytest.raises(DataError, match="at least 32 positions at each offset, got 31 at offset 2"):
        codelength.portions(targets_of(ids, torch.ones_like(mask), mask))


def test_an_order_that_leaves_a_block_out_is_an_error() -> None:
    with pytest.raises(DataError, match="each of 3 blocks once"):
        codelength.portions(targets_of(random_ids(3, 40)), torch.tensor([0, 2, 2]))


def test_cells_that_change_are_an_error() -> None:
    ids = random_ids(4, 16)
    targets = targets_of(ids)
    names = iter("ab")
    with pytest.raises(DataError, match="must all have the same cells"):
        codelength.online(
            lambda _: Told(targets, 0.5, next(names)), batches(ids, 4), targets, VOCABULARY
        )


def test_a_readout_without_cells_is_an_error() -> None:
    class Silent(Told):
        def predict(self, *_: object) -> Iterator[tuple[Cell, Tensor]]:
            yield from ()

    ids = random_ids(4, 16)
    targets = targets_of(ids)
    with pytest.raises(DataError, match="must all have the same cells, one at least"):
        codelength.online(lambda _: Silent(targets, 1.0), batches(ids, 4), targets, VOCABULARY)


def test_an_infinite_length_is_an_error() -> None:
    ids = random_ids(4, 16)
    targets = targets_of(ids)
    with pytest.raises(NumericalError, match="told, offset 1: the cross-entropy is not finite"):
        codelength.online(lambda _: Told(targets, 0.0), batches(ids, 4), targets, VOCABULARY)

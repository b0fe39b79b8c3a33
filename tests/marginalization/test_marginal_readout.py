"""The marginal against the exact sum, its bounds, and the readout of many."""

from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import probekit
from probekit.errors import DataError, ModelError, SettingsError
from probekit.marginalization import branch_routes
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.marginalization.marginalize import marginalize
from probekit.readout import Cell, Readout, Seen
from support.architectures import VOCABULARY, WINDOW, build

LENGTH = WINDOW + 6
LAST = WINDOW + 1  # beyond the window
EVERYTHING = Truncation(nucleus=1.0, max_branches=VOCABULARY**2)


def block(seed: int = 1, length: int = LENGTH) -> Tensor:
    return torch.randint(VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed))


@cache
def sharp(name: str = "mistral") -> Any:
    """Return a random model whose distributions are as sharp as those of a trained one."""
    model: Any = build(name)
    model.get_output_embeddings().weight.data *= 6
    return model


@cache
def exact(name: str, position: int, offset: int) -> Tensor:
    """Sum over the whole vocabulary, path by path from the start of the block, in float64."""
    model: Any = sharp(name)
    if name != "mamba":  # whose scan mixes dtypes in float64
        model = type(model)(model.config).double().eval()
        model.load_state_dict(sharp(name).state_dict())
    paths, weight = block()[None, : position + 1], torch.ones(1, dtype=model.dtype)
    with torch.no_grad():
        for _ in range(offset - 1):
            probs = next_probs(model, paths)
            weight = (weight[:, None] * probs).flatten()
            tokens = torch.arange(VOCABULARY).repeat(len(paths))[:, None]
            paths = torch.cat([paths.repeat_interleave(VOCABULARY, dim=0), tokens], dim=1)
        return weight @ next_probs(model, paths)


def next_probs(model: Any, paths: Tensor) -> Tensor:
    chunks = [paths[start : start + 1024] for start in range(0, len(paths), 1024)]
    logits = [model(rows, use_cache=False).logits[:, -1] for rows in chunks]
    probs: Tensor = torch.cat(logits).softmax(-1)
    return probs


@pytest.mark.parametrize("name", ["mistral", "gpt2", "gemma2", "bloom", "mamba"])
@pytest.mark.parametrize("position", [1, WINDOW + 2])
def test_offset_two_equals_the_sum_over_the_whole_vocabulary(name: str, position: int) -> None:
    found = marginalize(sharp(name), block(), position=position, truncation=EVERYTHING)
    expected = exact(name, position, 2).double()
    torch.testing.assert_close(found.probs.double(), expected, rtol=0, atol=1e-5)
    assert found.branches == VOCABULARY
    assert found.retained_mass == pytest.approx(1, abs=1e-6)
    assert found.tv_bound == pytest.approx(0, abs=1e-6)
    assert found.check.passed


def test_one_call_looks_from_the_last_position_at_the_token_after_next() -> None:
    found = probekit.marginalize(sharp(), block(), truncation=EVERYTHING)
    expected = exact("mistral", LENGTH - 1, 2).float()
    torch.testing.assert_close(found.probs, expected, rtol=0, atol=1e-5)


def test_offset_three_equals_the_sum_over_all_pairs_of_tokens() -> None:
    found = marginalize(sharp(), block(), 3, position=LAST, truncation=EVERYTHING)
    expected = exact("mistral", LAST, 3)
    torch.testing.assert_close(found.probs.double(), expected, rtol=0, atol=1e-5)
    assert found.branches == VOCABULARY**2


@settings(max_examples=10)
@given(st.floats(0.3, 1), st.integers(1, VOCABULARY), st.sampled_from([2, 3]))
def test_the_bounds_hold_whatever_is_kept(nucleus: float, budget: int, offset: int) -> None:
    truncation = Truncation(nucleus=nucleus, max_branches=budget)
    for position in (0, LAST):
        found = marginalize(sharp(), block(), offset, position=position, truncation=truncation)
        p, rounding = exact("mistral", position, offset), 1e-6
        assert (found.lower - rounding <= p).all()
        assert (p <= found.upper + rounding).all()
        distance = float((found.probs - p).abs().sum() / 2)
        assert distance <= found.tv_bound + rounding
        assert found.tv_bound == pytest.approx(1 - found.retained_mass)
        assert found.branches <= budget
        if found.branches < budget:
            assert found.retained_mass >= nucleus ** (offset - 1) - rounding


def test_one_branch_gives_the_distribution_after_the_likeliest_token_whole() -> None:
    model = sharp()
    found = marginalize(model, block(), position=5, truncation=Truncation("top", max_branches=1))
    with torch.no_grad():
        root = model(block()[None, :6]).logits[0, -1].softmax(-1)
        path = torch.cat([block()[:6], root.argmax()[None]])
        after = model(path[None]).logits[0, -1].softmax(-1)
    # Renormalised once: dividing by the mass twice, or not at all, gives another number.
    torch.testing.assert_close(found.probs, after, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.lower, root.max() * after, rtol=0, atol=1e-5)
    assert found.retained_mass == pytest.approx(float(root.max()), abs=1e-5)


def masks() -> dict[int, Tensor]:
    """Positions at offsets 1, 2 and 4; the third of the blocks has none, offset 5 neither."""
    valid = torch.rand(3, LENGTH, generator=torch.Generator().manual_seed(4)) < 0.6
    valid[2] = False
    found = {offset: valid.clone() for offset in (4, 1, 2)}
    for offset, mask in found.items():
        mask[:, LENGTH - offset :] = False
    found[4][0, :6] = False
    found[2][1, 4:] = False  # positions that are scored further on alone
    return found | {5: torch.zeros(3, LENGTH, dtype=torch.bool)}


def test_the_readout_gives_each_position_its_own_row() -> None:
    token_ids = torch.stack([block(1), block(2), block(3)])
    truncation = Truncation(max_branches=9)
    engine = BranchEngine(sharp(), max_tokens_per_forward=20)
    readout = Marginalization(engine, truncation)
    assert isinstance(readout, Readout)
    assert readout.layers == frozenset()
    valid = masks()
    cells = dict(readout.predict(Seen(token_ids, {}, first_block=7), valid))
    assert list(cells) == [Cell("marginal", 2), Cell("marginal", 4), Cell("marginal", 5)]
    assert cells[Cell("marginal", 5)].shape == (0, VOCABULARY)
    records = {(r.block, r.position, r.offset): r for r in readout.records}
    assert Counter(r.offset for r in readout.records) == {
        offset: int(valid[offset].sum()) for offset in (2, 4)
    }
    for offset in (2, 4):
        rows = valid[offset].nonzero().tolist()
        for row, (at, position) in list(enumerate(rows))[::4]:
            alone = marginalize(
                sharp(), token_ids[at], offset, position=position, truncation=truncation
            )
            found = cells[Cell("marginal", offset)][row].exp()
            torch.testing.assert_close(found, alone.probs, rtol=0, atol=1e-5)
            record = records[7 + at, position, offset]
            assert record.branches == alone.branches
            assert record.retained_mass == pytest.approx(alone.retained_mass, abs=1e-5)


def test_no_token_is_run_that_no_path_holds() -> None:
    model: Any = build("mistral")
    sizes: list[int] = []
    model.get_output_embeddings().weight.data *= 12
    readout = Marginalization(BranchEngine(model), Truncation(nucleus=0.9))
    valid = {2: torch.ones(1, LENGTH, dtype=torch.bool), 3: torch.ones(1, LENGTH, dtype=torch.bool)}
    list(readout.predict(Seen(block()[None], {}), valid))  # the first check is over
    readout.records.clear()
    readout.engine.forget()
    model.get_input_embeddings().register_forward_hook(lambda *x: sizes.append(x[1][0].numel()))
    list(readout.predict(Seen(block()[None], {}), valid))
    counts = [record.branches for record in readout.records]
    assert sum(sizes) == LENGTH + sum(counts)
    by_two = [record.branches for record in readout.records if record.offset == 2]
    assert min(by_two) == 1
    assert max(by_two) > 3


def test_a_probability_of_zero_is_no_infinite_loss() -> None:
    model: Any = build("gpt_neox")
    model.get_output_embeddings().weight.data *= 1000
    readout = Marginalization(BranchEngine(model, "one-by-one"), Truncation("top", max_branches=1))
    valid = {2: torch.ones(1, 6, dtype=torch.bool)}
    ((_, log_probs),) = readout.predict(Seen(block(length=6)[None], {}), valid)
    assert log_probs.isfinite().all()
    assert float(log_probs.min()) < -80


def test_a_route_that_fails_its_check_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_routes, "windows", lambda _: {"every layer": None})
    seen = Seen(block(length=3 * WINDOW)[None], {})
    valid = {2: torch.ones(1, 3 * WINDOW, dtype=torch.bool)}
    with pytest.raises(ModelError, match="packed differs from one by one"):
        list(Marginalization(BranchEngine(sharp(), "packed")).predict(seen, valid))
    readout = Marginalization(BranchEngine(sharp()), Truncation(max_branches=2))
    list(readout.predict(seen, valid))
    assert readout.engine.route == "expanded"
    assert readout.check is not None
    assert "packed differs" in readout.check.message


def test_bad_settings_are_said() -> None:
    with pytest.raises(SettingsError, match="route must be nucleus or top, got 'all'"):
        Truncation("all")
    with pytest.raises(SettingsError, match=r"nucleus must be in \(0, 1\], got 1.5"):
        Truncation(nucleus=1.5)
    with pytest.raises(SettingsError, match="max_branches must be 1 or more, got 0"):
        Truncation(max_branches=0)
    with pytest.raises(DataError, match=r"position must be in 0..13, got 14"):
        marginalize(sharp(), block(), position=LENGTH)
    with pytest.raises(DataError, match="offset must be 2 or more, got 1"):
        marginalize(sharp(), block(), 1)

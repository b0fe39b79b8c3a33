from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from probekit.errors import DataError, SettingsError
from probekit.marginalization import branch_routes
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.branch_tree import _pieces
from support.architectures import CONFIGS, VOCABULARY, WINDOW, build

LENGTH = 3 * WINDOW
EXPECTED_ROUTE = {"bloom": "expanded", "falcon-alibi": "expanded", "mamba": "one-by-one"}
WITHOUT_SDPA = {"bloom", "gemma2", "gptj", "mamba"}
CASES = [(name, "eager") for name in CONFIGS] + [
    (name, "sdpa") for name in CONFIGS if name not in WITHOUT_SDPA
]


def built(name: str, attention: str) -> Any:
    """Return a random model with the attention asked for."""
    source = build(name)
    auto: Any = hf.AutoModelForCausalLM
    model = auto.from_config(CONFIGS[name](), attn_implementation=attention)
    model.load_state_dict(source.state_dict())
    assert name == "mamba" or model.config._attn_implementation == attention
    return model.float().eval()


def block(length: int = LENGTH) -> Tensor:
    return torch.randint(VOCABULARY, (length,), generator=torch.Generator().manual_seed(1))


def levels(engine: BranchEngine, positions: list[int]) -> list[Tensor]:
    """Grow three uneven levels, the same tokens for every engine."""
    prefix = engine.read(block())
    tree = prefix.tree(torch.tensor(positions))
    found = [prefix.log_probs(torch.tensor(positions))]
    above, generator = len(positions), torch.Generator().manual_seed(2)
    for _ in range(3):
        counts = torch.randint(0, 4, (above,), generator=generator)
        counts[0] = 2
        parents = torch.arange(above).repeat_interleave(counts)
        tokens = torch.randint(VOCABULARY, (len(parents),), generator=generator)
        found.append(torch.cat([log_probs for _, log_probs in tree.grow(parents, tokens)]))
        above = len(parents)
    return found


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_branches_equal_one_by_one_on_every_architecture(name: str, attention: str) -> None:
    model = built(name, attention)
    engine = BranchEngine(model, max_tokens_per_forward=7)
    assert engine.route == EXPECTED_ROUTE.get(name, "packed")
    positions = [0, 3, WINDOW, LENGTH - 4]
    expected = levels(BranchEngine(model, "one-by-one"), positions)
    for found, reference in zip(levels(engine, positions), expected, strict=True):
        torch.testing.assert_close(found, reference, rtol=0, atol=1e-4)
    check = engine.check_first(block())
    assert check.passed
    assert engine.route in check.message
    if name in EXPECTED_ROUTE:
        assert "not packed" in engine.reason
    assert name == "mamba" or model.config._attn_implementation == attention


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_expanded_equals_one_by_one_where_packed_would_do(name: str) -> None:
    model = build(name)
    expected = levels(BranchEngine(model, "one-by-one"), [2, LENGTH - 4])
    found = levels(BranchEngine(model, "expanded", max_tokens_per_forward=2), [2, LENGTH - 4])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_one_by_one_is_the_model_on_prefix_and_path() -> None:
    model = build("gpt2")
    prefix = BranchEngine(model, "one-by-one").read(block())
    tree = prefix.tree(torch.tensor([4, 9]))
    list(tree.grow(torch.tensor([0, 1]), torch.tensor([5, 6])))
    ((_, found),) = list(tree.grow(torch.tensor([1]), torch.tensor([7])))
    path = torch.cat([block()[:10], torch.tensor([6, 7])])
    with torch.no_grad():
        expected = model(input_ids=path[None]).logits[0, -1].double().log_softmax(-1)
        root = model(input_ids=block()[None]).logits[0, 4].double().log_softmax(-1)
    torch.testing.assert_close(found[0].double(), expected, rtol=0, atol=1e-5)
    found_root = prefix.log_probs(torch.tensor([4]))[0].double()
    torch.testing.assert_close(found_root, root, rtol=0, atol=1e-5)


def boolean(visible: Tensor, dtype: torch.dtype) -> Tensor:
    assert dtype == torch.float32
    return visible[None, None]


def test_a_boolean_mask_is_caught_and_the_next_route_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_routes, "additive", boolean)
    model = built("llama", "eager")
    asked = BranchEngine(model, "packed").check_first(block())
    assert not asked.passed
    assert asked.measured > 0.01
    assert "use route auto" in asked.message
    engine = BranchEngine(model)
    check = engine.check_first(block())
    assert check.passed
    assert engine.route == "expanded"
    assert check.message.startswith("packed differs from one by one by ")
    assert "; expanded differs" in check.message
    assert "packed differs" in engine.reason


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_a_missing_window_is_caught_by_the_last_position_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name)
    kinds = branch_routes.windows(model)
    monkeypatch.setattr(branch_routes, "windows", lambda _: dict.fromkeys(kinds))
    engine = BranchEngine(model, "packed")
    assert engine.check_first(block(WINDOW - 2)).passed
    assert not engine.check_first(block()).passed


def test_branches_that_do_not_see_their_ancestors_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = branch_routes._visible

    def forgetful(nodes: Any, seen: Any, window: int | None) -> Tensor:
        visible = right(nodes, seen, window)
        visible[:, len(seen[0]) : -len(nodes.tokens)] = False
        return visible

    monkeypatch.setattr(branch_routes, "_visible", forgetful)
    assert not BranchEngine(build("llama"), "packed").check_first(block()).passed


def test_a_route_that_the_model_refuses_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setitem(branch_routes._RUN, "packed", refuse)
    engine = BranchEngine(build("llama"))
    check = engine.check_first(block())
    assert check.passed
    assert engine.route == "expanded"
    assert "packed was refused by the model (shapes do not match)" in check.message


def test_the_check_allows_the_rounding_of_bfloat16_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = built("llama", "eager").to(torch.bfloat16)
    model.get_output_embeddings().weight.data *= 8
    check = BranchEngine(model, "packed").check_first(block())
    assert check.passed
    assert check.allowed == 0.5
    monkeypatch.setattr(branch_routes, "additive", lambda visible, _: visible[None, None])
    assert not BranchEngine(model, "packed").check_first(block()).passed


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 9))
def test_pieces_hold_whole_positions_and_cover_all_nodes(counts: list[int], limit: int) -> None:
    owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    pieces = list(_pieces(owners, limit))
    assert torch.cat([owners[piece] for piece in pieces]).tolist() == owners.tolist()
    groups = [set(owners[piece].tolist()) for piece in pieces]
    assert sum(map(len, groups)) == len(counts)
    for piece, group in zip(pieces, groups, strict=True):
        assert piece.stop - piece.start <= limit or len(group) == 1


def test_a_forward_pass_holds_no_more_tokens_than_asked() -> None:
    model, sizes = build("llama"), []
    engine = BranchEngine(model, max_tokens_per_forward=7)
    prefix = engine.read(block())
    model.get_input_embeddings().register_forward_hook(lambda *x: sizes.append(x[1][0].numel()))
    tree = prefix.tree(torch.tensor([3, 5, 9]))
    parents = torch.arange(3).repeat_interleave(torch.tensor([3, 4, 9]))
    pieces = list(tree.grow(parents, torch.arange(16)))
    assert sizes == [7, 7, 2]
    assert [log_probs.shape for _, log_probs in pieces] == [(7, VOCABULARY), (9, VOCABULARY)]


def test_bad_settings_are_said() -> None:
    model = build("llama")
    with pytest.raises(SettingsError, match="route must be auto or one of"):
        BranchEngine(model, "fast")
    with pytest.raises(SettingsError, match="max_tokens_per_forward must be 1 or more, got 0"):
        BranchEngine(model, max_tokens_per_forward=0)
    with pytest.raises(SettingsError, match="packed does not suit this model: bloom"):
        BranchEngine(build("bloom"), "packed")
    with pytest.raises(SettingsError, match="expanded does not suit this model: mamba has no"):
        BranchEngine(build("mamba"), "expanded")


@pytest.mark.parametrize(
    ("parents", "tokens", "message"),
    [
        ([1, 0], [3, 4], "parents must ascend within 0..1"),
        ([0, 2], [3, 4], "parents must ascend within 0..1"),
        ([0], [3, 4], "one parent a token, got 1 for 2"),
        ([0, 1], [3, VOCABULARY], "tokens must be in 0..96"),
    ],
)
def test_a_bad_level_is_said(parents: list[int], tokens: list[int], message: str) -> None:
    tree = BranchEngine(build("llama")).read(block()).tree(torch.tensor([3, 5]))
    with pytest.raises(DataError, match=message):
        list(tree.grow(torch.tensor(parents), torch.tensor(tokens)))


def test_what_cannot_be_grown_is_said() -> None:
    engine = BranchEngine(build("gpt2"))
    with pytest.raises(DataError, match="at least one token"):
        engine.read(torch.zeros(0, dtype=torch.long))
    with pytest.raises(DataError, match=r"positions must be in 0..23"):
        engine.read(block()).tree(torch.tensor([LENGTH]))
    tree = engine.read(block()).tree(torch.tensor([3]))
    list(tree.grow(torch.tensor([0]), torch.tensor([5]), keep=False))
    with pytest.raises(DataError, match="keep=False"):
        list(tree.grow(torch.tensor([0]), torch.tensor([5])))
    tree = engine.read(torch.zeros(128, dtype=torch.long)).tree(torch.tensor([127]))
    with pytest.raises(DataError, match="the model takes 128 tokens"):
        list(tree.grow(torch.tensor([0]), torch.tensor([5])))


def test_what_was_run_is_not_run_again_under_another_output() -> None:
    model, sizes = build("llama"), []
    engine = BranchEngine(model)
    at, parents, tokens = torch.tensor([3, 9]), torch.tensor([0, 0, 1]), torch.tensor([5, 6, 5])

    def grown() -> list[Tensor]:
        tree = engine.read(block()).tree(at)
        first = torch.cat([found for _, found in tree.grow(parents, tokens)])
        second = torch.cat([found for _, found in tree.grow(torch.tensor([1, 2]), at, keep=False)])
        return [first, second]

    before = grown()
    model.get_input_embeddings().register_forward_hook(lambda *x: sizes.append(x[1][0].numel()))
    torch.testing.assert_close(grown(), before, rtol=0, atol=0)
    handle = model.get_output_embeddings().register_forward_hook(lambda *x: 2 * x[2])
    doubled = [(2 * found).log_softmax(-1) for found in before]
    torch.testing.assert_close(grown(), doubled, rtol=0, atol=1e-5)
    handle.remove()
    assert not sizes
    # Of two halves with a path in common that path is run once, and beside others none again.
    tree = engine.read(block()).tree(torch.tensor([3, 9, 3, 9]))
    list(tree.grow(torch.tensor([0, 1, 2, 3]), torch.tensor([6, 7, 8, 7])))
    assert sizes == [2]


def test_without_room_every_tree_runs_its_own_branches() -> None:
    model, sizes = build("llama"), []
    engine = BranchEngine(model)
    engine.room_bytes = 0
    model.get_input_embeddings().register_forward_hook(lambda *x: sizes.append(x[1][0].numel()))
    for _ in range(2):
        tree = engine.read(block()).tree(torch.tensor([3]))
        list(tree.grow(torch.tensor([0]), torch.tensor([5])))
    assert sizes == [LENGTH, 1, LENGTH, 1]

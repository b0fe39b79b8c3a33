"""Queries: packed branches that see what they may, and leave the model as it is."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.errors import ModelError, SettingsError
from probekit.heads.queries import QueryHeads, QueryReadout, visible
from probekit.models.anatomy import find_anatomy
from probekit.readout import Cell, Readout, Seen
from support.architectures import VOCABULARY, WINDOW, build, each

LENGTH = 20
IDS = torch.randint(0, 97, (2, LENGTH), generator=torch.Generator().manual_seed(0))
ASKED = each(
    ("llama", "gpt2", "gpt_neox", "mistral", "gemma3", "opt", "opt-projected"),
    quick=("llama", "gpt_neox", "mistral", "gemma3"),
)


def ask(name: str) -> QueryHeads:
    model = build(name)
    return QueryHeads(model, find_anatomy(model), 4)


@pytest.fixture(scope="module")
def queries(tiny_llama: PreTrainedModel) -> QueryHeads:
    return QueryHeads(tiny_llama, find_anatomy(tiny_llama), 4)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def logits(queries: QueryHeads, token_ids: Tensor, offset: int) -> Tensor:
    return queries.logits(queries.hidden(queries.read(token_ids), offset), offset)


@pytest.mark.parametrize("name", ASKED)
def test_the_tokens_do_not_notice_the_queries(name: str) -> None:
    queries = ask(name)
    with torch.no_grad():
        close(logits(queries, IDS, 1), queries.model(IDS).logits)


@pytest.mark.parametrize("name", ASKED)
def test_a_branch_is_what_the_model_computes_of_it_alone(name: str) -> None:
    queries = ask(name)
    found = {offset: logits(queries, IDS, offset) for offset in queries.offsets}
    with torch.no_grad():
        embedded = queries.model.get_input_embeddings()(IDS)
        asked = queries.embeddings.expand(2, -1, -1)
        # Within the window, at its edge, beyond it and at the end.
        for t in (0, 3, WINDOW - 2, WINDOW, LENGTH - 1):
            alone = torch.cat([embedded[:, : t + 1], asked], dim=1)
            expected = queries.model(inputs_embeds=alone).logits[:, t + 1 :]
            for offset in queries.offsets:
                close(found[offset][:, t], expected[:, offset - 2])


def test_a_query_is_blind(queries: QueryHeads) -> None:
    before = {offset: logits(queries, IDS, offset) for offset in queries.offsets}

    @settings(max_examples=8)
    @given(st.integers(0, LENGTH - 2), st.integers(1, 96))
    def blind(t: int, shift: int) -> None:
        changed = IDS.clone()
        changed[:, t + 1 :] = (changed[:, t + 1 :] + shift) % 97
        other = {offset: logits(queries, changed, offset) for offset in queries.offsets}
        for offset in queries.offsets:
            close(other[offset][:, : t + 1], before[offset][:, : t + 1])
            assert not torch.allclose(other[offset][:, t + 1 :], before[offset][:, t + 1 :])

    blind()


def test_a_window_counts_places_and_not_what_lies_between() -> None:
    seen = visible(3, 2, 2, torch.device("cpu"))
    # The query behind token 2 stands at place 3: it sees token 2 and itself.
    assert seen[5].tolist() == [False, False, True, False, False, True]
    assert visible(3, 2, None, torch.device("cpu"))[5].tolist() == [True] * 3 + [False] * 2 + [True]


def test_gradients_reach_each_query_from_its_own_offset_and_later_ones() -> None:
    queries = ask("llama")
    queries.model.requires_grad_(False)
    for offset in queries.offsets:
        queries.zero_grad()
        hidden = queries.hidden(queries.read(IDS), offset)
        queries.logits(hidden, offset).square().sum().backward()
        assert queries.embeddings.grad is not None
        reached = queries.embeddings.grad.abs().sum(dim=1) > 0
        assert reached.tolist() == [offset >= k for k in (2, 3, 4)]


def test_queries_alone_are_learned_and_kept(queries: QueryHeads) -> None:
    assert [name for name, _ in queries.named_parameters()] == ["embeddings"]
    assert list(queries.state_dict()) == ["embeddings"]
    table = queries.model.get_parameter("model.embed_tokens.weight")
    assert all(bool((table == row).all(dim=1).any()) for row in queries.embeddings)
    assert queries.embeddings.data_ptr() != table.data_ptr()


def test_the_readout_gives_the_rows_asked_for_and_is_blind(queries: QueryHeads) -> None:
    readout = QueryReadout(queries)
    assert isinstance(readout, Readout)
    mask = torch.rand(2, LENGTH, generator=torch.Generator().manual_seed(1)) < 0.5
    found = dict(readout.predict(Seen(IDS, {}), {1: mask, 2: mask, 4: ~mask}))
    assert list(found) == [Cell("head:query", 2), Cell("head:query", 4)]
    close(found[Cell("head:query", 4)], logits(queries, IDS, 4)[~mask])
    assert list(readout.predict(Seen(IDS, {}), {1: mask})) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bloom", r"bloom takes a token's place from the sequence \(ALiBi\)"),
        ("falcon-alibi", r"falcon takes a token's place from the sequence \(ALiBi\)"),
        ("mamba", "mamba has no cache of keys and values alone"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_model_whose_branches_a_mask_cannot_part_is_refused(name: str, why: str) -> None:
    with pytest.raises(ModelError, match=rf"queries cannot be kept apart in .*: {why}\. Use block"):
        ask(name)


def test_a_wrong_mask_is_found_when_queries_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(length: int, levels: int, _: int | None, device: torch.device) -> Tensor:
        return torch.eye(length * levels, dtype=torch.bool, device=device)

    monkeypatch.setattr("probekit.heads.queries.visible", forgetful)
    with pytest.raises(ModelError, match="it computes other numbers"):
        ask("llama")


def test_what_cannot_be_asked_is_an_error(tiny_llama: PreTrainedModel, queries: QueryHeads) -> None:
    with pytest.raises(SettingsError, match="horizon must be 2 or more, got 1"):
        QueryHeads(tiny_llama, queries.anatomy, 1)


def test_a_block_may_be_as_long_as_the_model_takes(queries: QueryHeads) -> None:
    longest = queries.model.config.max_position_embeddings
    whole = torch.arange(longest)[None] % VOCABULARY
    for offset in queries.offsets:
        found = logits(queries, whole, offset)
        last = longest - offset - 1  # the last position whose target is in the block
        expected = logits(queries, whole[:, : last + 1], offset)[:, -1]
        close(found[:, last], expected)


@pytest.mark.parametrize(
    ("model", "learned"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2],
)
def test_queries_are_learned_in_float32_or_more(model: torch.dtype, learned: torch.dtype) -> None:
    narrow = copy.deepcopy(build("llama"))
    nn.Module.to(narrow, model)
    queries = QueryHeads(narrow, find_anatomy(narrow), 2)
    assert queries.embeddings.dtype == learned
    assert queries.read(IDS).resid[2].dtype == model

"""Training moves what it should by the gradient it should."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from probekit.errors import DataError, NumericalError, SettingsError
from probekit.heads.heads import build as build_heads
from probekit.heads.queries import QueryHeads
from probekit.heads.training import lora
from probekit.heads.training.train import Data, train
from support.architectures import build, each
from support.small_training import (
    DATA,
    LENGTH,
    SYMBOLS,
    World,
    recipe,
    same,
    silent,
    subfolder,
    validation,
)

# What moves, and what does not


SIX = ("gpt_neox", "gpt2", "llama", "opt", "gemma2", "falcon")


@pytest.mark.parametrize("name", each((*SIX, "phi", "bloom", "cohere"), quick=SIX))
def test_joint_training_moves_adapters_and_heads_alone(name: str, tmp_path: Path) -> None:
    world = World(name)
    start = world.values()
    history = world.train(recipe("joint-diff", learning_rate=1e-3, evaluations=1), tmp_path)
    assert min(history.best_steps.values()) > 0, "nothing better than the start was found"
    assert not world.moved()
    frozen = set(world.model.parameters()) - set(lora.parameters(world.model).values())
    assert all(p.grad is None for p in frozen)
    now = world.values()
    unmoved = {k for k in start if torch.equal(now[k], start[k])}
    # A bias of keys adds the same to every logit of a query.
    assert all("k_proj.bias" in k or "key.bias" in k for k in unmoved), unmoved
    assert {k for k in now if ".lora_B" in k and not now[k].any()} == set()
    assert any(".lora_" in k for k in now)
    with_adapters = world.model(DATA.train.token_ids, use_cache=False).logits
    lora.detach(world.model)
    without = world.model(DATA.train.token_ids, use_cache=False).logits
    base = build(name)(DATA.train.token_ids, use_cache=False).logits
    assert torch.equal(without, base)
    assert not torch.equal(with_adapters, base)


def test_adapters_are_on_the_blocks_that_are_read_and_no_others(tmp_path: Path) -> None:
    world = World(read=1)
    world.train(recipe("joint"), tmp_path)
    assert [bool(lora.parameters(b)) for b in world.anatomy.blocks] == [True, False, False]


def test_heads_alone_leave_the_whole_model_as_it_is(tmp_path: Path) -> None:
    world = World()
    start = world.values()
    world.train(recipe("heads-only"), tmp_path)
    assert not world.moved()
    assert not lora.parameters(world.model)
    now = world.values()
    assert all(not torch.equal(now[k], start[k]) for k in start)
    assert all(p.grad is None for p in world.model.parameters())
    assert all(p.requires_grad for p in world.model.parameters()), "it is asked as it was before"


def test_heads_learn_at_their_multiple_of_the_rate(tmp_path: Path) -> None:
    # The first step of AdamW is the rate, whatever the gradient: here, without decay.
    world = World()
    start = world.values()
    asked = recipe("joint-diff", batch_size=16, evaluations=1, learning_rate=1e-4, weight_decay=0.0)
    history = world.train(asked, tmp_path, Data(DATA.train, DATA.train))
    assert set(history.best_steps.values()) == {1}
    now = world.values()
    steps = {k: float((now[k] - start.get(k, torch.zeros(()))).abs().max()) for k in now}
    heads = [step for k, step in steps.items() if ".lora_" not in k]
    outer = [step for k, step in steps.items() if ".lora_B" in k]
    assert heads == pytest.approx([4e-4] * len(heads), rel=2e-2)
    assert outer == pytest.approx([1e-4] * len(outer), rel=2e-2)
    assert {row.rate for row in history.rows if row.step == 0} == {4e-4}


@pytest.mark.parametrize(
    ("kind", "own"), [("medusa", False), ("medusa", True), ("linear", False), ("queries", False)]
)
def test_every_kind_of_head_is_trained_and_the_model_stays(
    kind: Any, own: bool, tmp_path: Path
) -> None:
    world = World()
    heads = (
        QueryHeads(world.model, world.anatomy, horizon=2)
        if kind == "queries"
        else build_heads(kind, world.anatomy, [1, 2], own_unembedding=own)
    )
    start = {name: p.detach().clone() for name, p in heads.named_parameters()}
    asked = recipe("heads-only", evaluations=1)
    history = train(heads, world.backbone, DATA, asked, tmp_path / "x.pt", silent)
    assert validation(history, 2)[-1] < validation(history, 2)[0]
    assert not world.moved()
    assert all(not torch.equal(p, start[name]) for name, p in heads.named_parameters())


def test_only_asked_positions_count(tmp_path: Path) -> None:
    mask = torch.zeros_like(DATA.train.token_ids, dtype=torch.bool)
    mask[:, LENGTH // 2 :] = True
    found = []
    for garbage in (False, True):
        ids = {k: x.clone() for k, x in DATA.train.targets.ids.items()}
        if garbage:
            ids = {k: torch.where(mask, x, 1) for k, x in ids.items()}
        targets = replace(DATA.train.targets, ids=ids).at(mask)
        world = World()
        data = Data(replace(DATA.train, targets=targets), DATA.validation)
        # Its digest knows of the garbage: other folders.
        world.train(recipe("heads-only"), subfolder(tmp_path, str(garbage)), data)
        found.append(world.values())
    assert same(*found)
    whole = World()
    whole.train(recipe("heads-only"), tmp_path)
    assert not same(found[0], whole.values())


# What is learned


def test_a_task_that_can_be_learned_is_learned(tmp_path: Path) -> None:
    world = World()
    history = world.train(recipe("joint", epochs=10, rank=8), tmp_path)
    for offset in (1, 2):
        nats = validation(history, offset)
        assert nats[-1] < 0.5 * nats[0]
        assert nats[-1] < 0.9 * math.log(SYMBOLS), "it learned which symbols there are, no more"


def test_the_model_itself_learns_the_next_token_of_new_text(tmp_path: Path) -> None:
    world = World()
    asked = recipe("finetune", epochs=10, rank=8)
    history = train(None, world.backbone, DATA, asked, tmp_path / "x.pt", silent)
    nats = validation(history, 1)
    assert nats[-1] < 0.6 * nats[0]
    assert not world.moved()
    assert all(bool(lora.parameters(block)) for block in world.anatomy.blocks)
    assert {row.stage for row in history.rows} == {"model"}
    # What it learned is there in the model's own logits, and in those of a merged copy.
    ids = DATA.validation.token_ids
    for model in (world.model, lora.merged(world.model)):
        logits = model(ids, use_cache=False).logits.detach()[:, :-1]
        own = float(cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))
        assert own == pytest.approx(min(nats), rel=1e-4)


def test_a_warm_up_is_training_the_heads_alone_for_that_epoch(tmp_path: Path) -> None:
    alone, both = World(), World()
    first = alone.train(recipe("heads-only"), tmp_path)
    second = both.train(recipe("joint-warmup-diff"), subfolder(tmp_path, "both"))
    warm = [replace(row, stage="heads") for row in second.rows if row.stage == "warm-up"]
    assert tuple(warm) == first.rows
    joint = [row for row in second.rows if row.stage == "joint"]
    assert joint[0].step == first.rows[-1].step
    start = {row.offset: row.nats for row in joint if row.step == first.rows[-1].step}
    assert start == {k: validation(first, k)[-1] for k in (1, 2)}


# Errors


def test_queries_ask_a_model_that_is_not_trained(tmp_path: Path) -> None:
    world = World()
    heads = QueryHeads(world.model, world.anatomy, horizon=2)
    with pytest.raises(SettingsError, match="recipe joint trains the model too, which queries"):
        train(heads, world.backbone, DATA, recipe("joint"), tmp_path / "x.pt", silent)


def test_nothing_to_train_is_an_error(tmp_path: Path) -> None:
    world = World()
    with pytest.raises(SettingsError, match="recipe heads-only trains heads alone, and there"):
        train(None, world.backbone, DATA, recipe("heads-only"), tmp_path / "x.pt", silent)


def test_heads_in_a_narrow_dtype_are_refused(tmp_path: Path) -> None:
    world = World()
    world.heads.bfloat16()
    with pytest.raises(SettingsError, match=r"these are in torch\.bfloat16.*heads\.float\(\)"):
        world.train(recipe("heads-only"), tmp_path)


def test_an_offset_without_a_target_is_an_error(tmp_path: Path) -> None:
    world = World(offsets=3)
    with pytest.raises(DataError, match="the text to train on has no target at offset 3"):
        world.train(recipe("heads-only"), tmp_path)
    nowhere = torch.zeros_like(DATA.validation.token_ids, dtype=torch.bool)
    empty = replace(DATA.validation, targets=DATA.validation.targets.at(nowhere))
    with pytest.raises(DataError, match="the text to validate on has no target at offset 1"):
        World().train(recipe("heads-only"), tmp_path, Data(DATA.train, empty))


def test_a_loss_that_is_not_finite_stops_the_training_and_leaves_the_model(
    tmp_path: Path,
) -> None:
    world = World()
    with torch.no_grad():
        next(world.heads.parameters()).fill_(float("nan"))
    with pytest.raises(NumericalError, match="cross-entropy at offset 1 is not finite"):
        world.train(recipe("joint"), tmp_path)
    assert not world.moved()
    assert not lora.parameters(world.model)

"""Training moves what it should by the gradient it should, and goes on where it was stopped."""

import copy
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from probekit import adapters, anatomy
from probekit.anatomy import Anatomy
from probekit.backbone import Backbone
from probekit.backward import NextToken, Objective, Weight
from probekit.course import Course
from probekit.errors import DataError, NumericalError, RunError, SettingsError
from probekit.forms import Form
from probekit.heads import Heads
from probekit.heads import build as build_heads
from probekit.queries import QueryHeads
from probekit.recipes import RECIPES, Recipe
from probekit.targets import text_targets
from probekit.tokens import Blocks
from probekit.training import Batches, Data, History, train

# Symbols of the text: each block counts on from a random one.
SYMBOLS, LENGTH = 8, 12

QUICK: dict[str, Any] = {
    "products": "model", "batch_size": 4, "evaluations": 2, "learning_rate": 1e-2, "rank": 2,
}  # fmt: skip


def recipe(name: str, **changes: Any) -> Recipe:
    return replace(RECIPES[name], **(QUICK | changes))


def batches(n: int, seed: int, horizon: int = 2) -> Batches:
    draw = torch.Generator().manual_seed(seed)
    ids = 3 + (torch.randint(SYMBOLS, (n, 1), generator=draw) + torch.arange(LENGTH)) % SYMBOLS
    blocks = Blocks(ids, torch.arange(n)[:, None].repeat(1, LENGTH))
    return Batches(ids, text_targets(blocks, horizon))


DATA = Data(batches(16, seed=0), batches(8, seed=1))


class World:
    """A model and heads for offsets 1 and 2, always the same ones."""

    def __init__(self, name: str = "llama", *, read: Any = 2, offsets: int = 2) -> None:
        self.model: PreTrainedModel = build(name)
        self.anatomy: Anatomy = anatomy.find(self.model)
        self.backbone = Backbone(self.model, self.anatomy)
        self.before = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.heads = Heads(
            Form("block", read),
            self.anatomy,
            {k: self.block(seed=k) for k in range(1, offsets + 1)},
        )

    def block(self, seed: int) -> nn.Module:
        block = copy.deepcopy(self.anatomy.blocks[-1])
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.05)
        return block

    def train(self, asked: Recipe, folder: Path, data: Data = DATA) -> History:
        return train(self.heads, self.backbone, data, asked, folder / "x.pt", _silent)

    def moved(self) -> set[str]:
        """Names of base weights that are not what they were, bit for bit."""
        now = {k.replace(".base_layer.", "."): v for k, v in self.model.state_dict().items()}
        return {k for k, v in self.before.items() if not torch.equal(now[k], v)}

    def values(self) -> dict[str, Tensor]:
        found = dict(self.heads.named_parameters()) | adapters.parameters(self.model)
        return {name: p.detach().clone() for name, p in found.items()}


def _silent(_: str) -> None:
    pass


def validation(history: History, offset: int) -> list[float]:
    curve = history.curve
    rows = curve[(curve["part"] == "validation") & (curve["offset"] == offset)]
    return [float(nats) for nats in rows["nats"]]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# What moves, and what does not


@pytest.mark.parametrize(
    "name", ["gpt_neox", "gpt2", "llama", "phi", "opt", "gemma2", "bloom", "falcon", "cohere"]
)
def test_joint_training_moves_adapters_and_heads_alone(name: str, tmp_path: Path) -> None:
    world = World(name)
    start = world.values()
    history = world.train(recipe("joint-diff", learning_rate=1e-3, evaluations=1), tmp_path)
    assert history.best_step > 0, "nothing better than the start was found"
    assert not world.moved()
    now = world.values()
    unmoved = {k for k in start if torch.equal(now[k], start[k])}
    # A bias of keys adds the same to every logit of a query.
    assert all("k_proj.bias" in k or "key.bias" in k for k in unmoved), unmoved
    assert {k for k in now if ".lora_B" in k and not now[k].any()} == set()
    assert any(".lora_" in k for k in now)
    with_adapters = world.model(DATA.train.token_ids, use_cache=False).logits
    with adapters.off(world.model):
        without = world.model(DATA.train.token_ids, use_cache=False).logits
    base = build(name)(DATA.train.token_ids, use_cache=False).logits
    assert torch.equal(without, base)
    assert not torch.equal(with_adapters, base)


def test_adapters_are_on_the_blocks_that_are_read_and_no_others(tmp_path: Path) -> None:
    world = World(read=1)
    world.train(recipe("joint"), tmp_path)
    assert [bool(adapters.parameters(b)) for b in world.anatomy.blocks] == [True, False, False]


def test_heads_alone_leave_the_whole_model_as_it_is(tmp_path: Path) -> None:
    world = World()
    start = world.values()
    world.train(recipe("heads-only"), tmp_path)
    assert not world.moved()
    assert not adapters.parameters(world.model)
    now = world.values()
    assert all(not torch.equal(now[k], start[k]) for k in start)
    assert all(p.grad is None for p in world.model.parameters())
    assert all(p.requires_grad for p in world.model.parameters()), "it is asked as it was before"


# The gradient


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2", "cohere", "phi"])
@pytest.mark.parametrize("balance", ["rms", "none"])
def test_one_head_at_a_time_gives_the_gradient_of_the_sum(name: str, balance: Any) -> None:
    world = World(name, read="mix")
    added = _live_adapters(world)
    batch = DATA.train.take(slice(0, 4), torch.device("cpu"))
    values = [*world.heads.parameters(), *added.values()]

    reading = world.backbone.read(batch.token_ids, world.heads.reads)
    total, first = torch.zeros(()), None
    for k in (1, 2):
        valid = batch.targets.valid[k]
        logits = world.heads.logits(world.heads.hidden(reading, k), k)
        nats = cross_entropy(logits[valid], batch.targets.ids[k][valid], reduction="none")
        rms = nats.detach().square().mean().sqrt()
        first = rms if first is None else first
        total = total + nats.mean() * (first / rms if balance == "rms" else 1)
    total.backward()
    wanted = [_taken(p) for p in values]

    means = Objective(world.heads, world.backbone, balance, "model").backward(batch, joint=True)
    assert list(means) == [1, 2]
    for p, gradient in zip(values, wanted, strict=True):
        scale = float(gradient.abs().max().clamp_min(1e-4))
        assert float((_taken(p) - gradient).abs().max()) < 1e-4 * scale


def _live_adapters(world: World) -> dict[str, nn.Parameter]:
    """Put adapters on that do something, and freeze the rest."""
    world.model.requires_grad_(False)
    added = dict(adapters.attach(world.model, world.anatomy, [1, 2], rank=2, alpha=4.0))
    with torch.no_grad():
        for parameter in added.values():
            parameter.add_(0.05)
    return added


def _taken(parameter: nn.Parameter) -> Tensor:
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    parameter.grad = None
    return gradient


def test_the_factor_of_a_head_is_the_ratio_of_root_mean_squares() -> None:
    weigh = Weight("rms")
    assert weigh(torch.tensor([3.0, 4.0])) == pytest.approx(1 / 2)
    assert weigh(torch.tensor([6.0, 8.0, 10.0, 0.0])) == pytest.approx(
        math.sqrt(25 / 2) / math.sqrt(200 / 4) / 4
    )
    assert Weight("none")(torch.tensor([3.0, 4.0])) == 0.5


def test_narrow_products_change_the_gradient_by_rounding_alone() -> None:
    world = World()
    batch = DATA.train.take(slice(0, 8), torch.device("cpu"))
    found = {}
    for products in ("model", "bfloat16"):
        Objective(world.heads, world.backbone, "rms", products).backward(batch, joint=False)
        found[products] = torch.cat([_taken(p).flatten() for p in world.heads.parameters()])
    apart = (found["model"] - found["bfloat16"]).norm() / found["model"].norm()
    assert 0 < apart < 0.05


def test_heads_learn_at_their_multiple_of_the_rate(tmp_path: Path) -> None:
    # The first step of AdamW is the rate, whatever the gradient: here, without decay.
    world = World()
    start = world.values()
    asked = recipe("joint-diff", batch_size=16, evaluations=1, learning_rate=1e-4, weight_decay=0.0)
    history = world.train(asked, tmp_path, Data(DATA.train, DATA.train))
    assert history.best_step == 1
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
    learner = (
        QueryHeads(world.model, world.anatomy, horizon=2)
        if kind == "queries"
        else build_heads(kind, world.anatomy, [1, 2], own_unembedding=own)
    )
    start = {name: p.detach().clone() for name, p in learner.named_parameters()}
    asked = recipe("heads-only", evaluations=1)
    history = train(learner, world.backbone, DATA, asked, tmp_path / "x.pt", _silent)
    assert validation(history, 2)[-1] < validation(history, 2)[0]
    assert not world.moved()
    assert all(not torch.equal(p, start[name]) for name, p in learner.named_parameters())


def test_queries_ask_a_model_that_is_not_trained(tmp_path: Path) -> None:
    world = World()
    learner = QueryHeads(world.model, world.anatomy, horizon=2)
    with pytest.raises(SettingsError, match="recipe joint trains the model too, which queries"):
        train(learner, world.backbone, DATA, recipe("joint"), tmp_path / "x.pt", _silent)


# The course


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
    history = train(None, world.backbone, DATA, asked, tmp_path / "x.pt", _silent)
    nats = validation(history, 1)
    assert nats[-1] < 0.6 * nats[0]
    assert not world.moved()
    assert all(bool(adapters.parameters(block)) for block in world.anatomy.blocks)
    assert {row.stage for row in history.rows} == {"model"}
    # What it learned is there in the model's own logits, and in those of a merged copy.
    ids = DATA.validation.token_ids
    for model in (world.model, adapters.merged(world.model)):
        logits = model(ids, use_cache=False).logits.detach()[:, :-1]
        own = float(cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))
        assert own == pytest.approx(min(nats), rel=1e-4)


def test_the_history_is_a_learning_curve(tmp_path: Path) -> None:
    history = World().train(recipe("heads-only", epochs=2, evaluations=4), tmp_path)
    curve = history.curve
    assert list(curve.columns) == ["stage", "step", "tokens", "part", "offset", "nats", "rate"]
    assert sorted(curve["step"].unique()) == [0, 2, 4, 6, 8]
    assert (curve["tokens"] == curve["step"] * 4 * LENGTH).all()
    by_part = curve.groupby("part").size()
    assert by_part["validation"] == 5 * 2
    assert by_part["train"] == 4 * 2, "nothing was trained on before step 0"
    rates = curve[curve["part"] == "validation"].groupby("step")["rate"].first()
    wanted = [1e-2 * (1 + math.cos(math.pi * step / 8)) / 2 for step in rates.index]
    assert list(rates) == pytest.approx(wanted)
    assert not history.stopped_early


def test_a_warm_up_is_training_the_heads_alone_for_that_epoch(tmp_path: Path) -> None:
    alone, both = World(), World()
    first = alone.train(recipe("heads-only"), tmp_path)
    second = both.train(recipe("joint-warmup-diff"), _folder(tmp_path, "both"))
    warm = [replace(row, stage="heads") for row in second.rows if row.stage == "warm-up"]
    assert tuple(warm) == first.rows
    joint = [row for row in second.rows if row.stage == "joint"]
    assert joint[0].step == first.rows[-1].step
    start = {row.offset: row.nats for row in joint if row.step == first.rows[-1].step}
    assert start == {k: validation(first, k)[-1] for k in (1, 2)}


def test_the_weights_that_validation_likes_best_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, seen = World(), []

    def scripted(_: Course) -> dict[int, float]:
        seen.append(world.values())
        return {1: 1.0, 2: [5.0, 3.0, 4.0, 3.0, 9.0, 9.0][len(seen) - 1]}

    monkeypatch.setattr(Course, "_validate", scripted)
    asked = recipe("heads-only", epochs=3, evaluations=12, patience=3)
    history = world.train(asked, tmp_path)
    assert len(seen) == 5, "three in a row that are not better end it"
    assert history.stopped_early
    assert history.best_step == 1
    assert same(world.values(), seen[1])
    assert not same(world.values(), seen[-1])


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
        world.train(recipe("heads-only"), _folder(tmp_path, str(garbage)), data)
        found.append(world.values())
    assert same(*found)
    whole = World()
    whole.train(recipe("heads-only"), tmp_path)
    assert not same(found[0], whole.values())


def test_the_seed_says_the_order_of_blocks(tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((0, 0, 1)):
        world = World()
        asked = recipe("heads-only", seed=seed, evaluations=1)
        world.train(asked, _folder(tmp_path, str(number)))
        found.append(world.values())
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


# Interruptions


class _StopError(Exception):
    """Somebody pulled the plug."""


def _stopping(step: int) -> Callable[[Course], None]:
    count = iter(range(10**6))
    advance = Course.advance

    def stopping(course: Course) -> None:
        if next(count) == step:
            raise _StopError
        advance(course)

    return stopping


def test_a_training_that_was_stopped_at_any_step_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three steps of warm-up and three more; the checkpoints are behind steps 0, 2 and 3 of each.
    asked, data = recipe("joint-warmup-diff"), Data(batches(12, seed=0), batches(4, seed=1))
    whole = World()
    history = whole.train(asked, _folder(tmp_path, "whole"), data)
    assert sorted({row.step for row in history.rows}) == [0, 2, 3, 5, 6]
    for step in range(6):
        world, folder = World(), _folder(tmp_path, str(step))
        with monkeypatch.context() as patch:
            patch.setattr(Course, "advance", _stopping(step))
            with pytest.raises(_StopError):
                world.train(asked, folder, data)
        assert not adapters.parameters(world.model)
        # Both a new process and the same one, whose heads are half trained, can go on.
        world = World() if step % 2 else world
        assert world.train(asked, folder, data) == history
        assert same(world.values(), whole.values())


def test_a_finished_training_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = World(), World()
    history = first.train(recipe("joint"), tmp_path)
    monkeypatch.setattr(Course, "advance", _stopping(0))
    assert second.train(recipe("joint"), tmp_path) == history
    assert same(second.values(), first.values())


def test_a_checkpoint_of_another_training_is_an_error(tmp_path: Path) -> None:
    World().train(recipe("heads-only"), tmp_path)
    others: tuple[Callable[[], History], ...] = (
        lambda: World().train(recipe("heads-only", seed=1), tmp_path),
        lambda: World("mistral").train(recipe("heads-only"), tmp_path),
        lambda: World().train(recipe("heads-only"), tmp_path, Data(DATA.validation, DATA.train)),
    )
    for other in others:
        with pytest.raises(RunError, match=r"x\.pt is of another training"):
            other()
    (tmp_path / "x.pt").write_bytes(b"half of it")
    with pytest.raises(RunError, match="is not a checkpoint"):
        World().train(recipe("heads-only"), tmp_path)


KILLED = """
import hashlib, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_training import World, recipe, DATA
from probekit.training import train
world = World("gpt_neox")
asked = recipe("joint-warmup-diff", epochs=12, evaluations=6)
path = Path(sys.argv[1]) / "x.pt"
history = train(world.heads, world.backbone, DATA, asked, path, lambda x: print(x, flush=True))
digest = hashlib.sha256(repr(history).encode())
for value in world.values().values():
    digest.update(value.numpy().tobytes())
print("digest", digest.hexdigest())
"""


@pytest.mark.slow
def test_a_training_that_was_killed_comes_to_the_same(tmp_path: Path) -> None:
    whole = _lines(_folder(tmp_path, "whole"))
    digest = whole[-1]
    assert digest.startswith("digest")
    for after in (3, 10):
        folder = _folder(tmp_path, str(after))
        _lines(folder, kill_after=after)
        again = _lines(folder)
        assert again[-1] == digest
        assert len(again) < len(whole), "it began anew"


def _lines(folder: Path, kill_after: int | None = None) -> list[str]:
    """Run the script; kill it when it has said so many lines."""
    found = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found.append(line)
            if len(found) == kill_after:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == (0 if kill_after is None else -signal.SIGKILL)
    return found


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


# Errors


def test_nothing_to_train_is_an_error(tmp_path: Path) -> None:
    world = World()
    with pytest.raises(SettingsError, match="recipe heads-only trains heads alone, and there"):
        train(None, world.backbone, DATA, recipe("heads-only"), tmp_path / "x.pt", _silent)


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
    assert not adapters.parameters(world.model)


def test_the_model_itself_is_a_head_that_reads_the_last_layer() -> None:
    world = World("gemma2")
    own = NextToken(world.anatomy)
    ids = DATA.train.token_ids
    with torch.no_grad():
        hidden = own.hidden(world.backbone.read(ids, own.reads), 1)
        wanted = world.model(ids, use_cache=False).logits
        assert torch.allclose(own.logits(hidden, 1), wanted, atol=1e-5)

"""A training keeps a learning curve and the best weights, and goes on where it was stopped."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from probekit.errors import RunError
from probekit.heads.training.loop import TrainingLoop
from probekit.heads.training.train import Data, History
from support.paths import ROOT
from support.small_training import DATA, LENGTH, World, batches, recipe, same, subfolder

SLOW = pytest.mark.slow


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


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        # Heads on a frozen model share nothing: each is kept as it was best.
        ("heads-only", {1: 0, 2: 12}),
        ("joint", {1: 12, 2: 12}),
    ],
)
def test_weights_are_kept_of_the_end_or_of_the_start_and_not_in_between(
    name: str, steps: dict[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, seen = World(), []

    def scripted(_: TrainingLoop) -> dict[int, float]:
        seen.append(world.values())
        evaluation = len(seen) - 1
        return {
            1: [1.0, 0.9, 1.1][evaluation],
            2: [5.0, 3.0, 4.0][evaluation],
        }

    monkeypatch.setattr(TrainingLoop, "_validate", scripted)
    history = world.train(recipe(name, epochs=3, evaluations=2), tmp_path)
    assert len(seen) == 3
    assert history.best_steps == steps
    assert history.kept() == {1: 1.0 if name == "heads-only" else 1.1, 2: 4.0}
    kept = {k: v for k, v in seen[2].items() if not k.startswith("heads.1")}
    kept |= {k: v for k, v in seen[steps[1] // 6].items() if k.startswith("heads.1")}
    assert same(world.values(), kept)


def test_the_seed_says_the_order_of_blocks(tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((0, 0, 1)):
        world = World()
        asked = recipe("heads-only", seed=seed, evaluations=1)
        world.train(asked, subfolder(tmp_path, str(number)))
        found.append(world.values())
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_gradients_from_before_the_training_do_not_count(tmp_path: Path) -> None:
    found = []
    for stale in (False, True):
        world = World()
        for parameter in world.heads.parameters():
            parameter.grad = torch.ones_like(parameter) if stale else None
        world.train(recipe("heads-only", evaluations=1), subfolder(tmp_path, str(stale)))
        found.append(world.values())
    assert same(*found)


# Interruptions


class _StopError(Exception):
    """Somebody pulled the plug."""


def _stopping(step: int) -> Callable[[TrainingLoop], None]:
    count = iter(range(10**6))
    advance = TrainingLoop.advance

    def stopping(loop: TrainingLoop) -> None:
        if next(count) == step:
            raise _StopError
        advance(loop)

    return stopping


# Three steps of warm-up and three more; the checkpoints are behind steps 0, 2 and 3 of each.
WITH_WARM_UP = recipe("joint-warmup-diff"), Data(batches(12, seed=0), batches(4, seed=1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, dict[str, Tensor]]:
    world = World()
    asked, data = WITH_WARM_UP
    return world.train(asked, tmp_path_factory.mktemp("whole"), data), world.values()


@pytest.mark.parametrize("step", [1, 4, *(pytest.param(s, marks=SLOW) for s in (0, 2, 3, 5))])
def test_a_training_that_was_stopped_at_any_step_comes_to_the_same(
    step: int,
    whole: tuple[History, dict[str, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (history, values), (asked, data) = whole, WITH_WARM_UP
    assert sorted({row.step for row in history.rows}) == [0, 2, 3, 5, 6]
    world = World()
    start = world.values()
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "advance", _stopping(step))
        with pytest.raises(_StopError):
            world.train(asked, tmp_path, data)
    assert same(world.values(), start), "the same call goes on from heads that start the same"
    # Both a new process and the same one can go on.
    world = World() if step % 2 else world
    assert world.train(asked, tmp_path, data) == history
    assert same(world.values(), values)


def test_a_finished_training_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = World(), World()
    history = first.train(recipe("joint"), tmp_path)
    monkeypatch.setattr(TrainingLoop, "advance", _stopping(0))
    assert second.train(recipe("joint"), tmp_path) == history
    assert same(second.values(), first.values())


def test_a_checkpoint_of_another_training_is_an_error(tmp_path: Path) -> None:
    World().train(recipe("heads-only"), tmp_path)
    nudged = World()
    with torch.no_grad():
        list(nudged.heads.parameters())[-1].view(-1)[-1] += 1e-3
    others: tuple[Callable[[], History], ...] = (
        lambda: nudged.train(recipe("heads-only"), tmp_path),
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

from support.paths import ROOT
import torch
torch.set_num_threads(1)
from support.small_training import DATA, World, recipe
from probekit.heads.training.train import train
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
    whole = _lines(subfolder(tmp_path, "whole"))
    digest = whole[-1]
    assert digest.startswith("digest")
    for after in (3, 10):
        folder = subfolder(tmp_path, str(after))
        _lines(folder, kill_after=after)
        again = _lines(folder)
        assert again[-1] == digest
        assert len(again) < len(whole), "it began anew"


def _lines(folder: Path, kill_after: int | None = None) -> list[str]:
    """Run the script; kill it when it has said so many lines."""
    found = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
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

"""The training loop: its steps, its evaluations, its checkpoints.

Nothing is drawn but the order of blocks, from the seed and the number of the epoch; so a
training that was stopped goes on, from its last checkpoint, to the very numbers that it would
have come to.
"""

import dataclasses
import math
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probekit.errors import RunError
from probekit.files import write_checked
from probekit.heads.heads import Heads
from probekit.heads.training.balanced_loss import Objective, TokenBatch
from probekit.heads.training.history import History, Row
from probekit.heads.training.recipes import Recipe
from probekit.heads.training.trainable import Trainable
from probekit.settings import LARGEST_SEED

CLIP = 1.0

# What a checkpoint holds beside tensors and the learning curve.
STATE = ("step", "tokens")


@dataclass(frozen=True)
class Data:
    """The text to train on, and the text that selects the best weights."""

    train: TokenBatch
    validation: TokenBatch

    def only(self, offset: int) -> "Data":
        """Return the same text with the targets of one offset."""
        parts = (self.train, self.validation)
        return Data(*(replace(part, targets=part.targets.only([offset])) for part in parts))


@dataclass
class SelectionGroup:
    """Heads whose best weights are selected together, as each changes the others' training.

    Attributes:
        offsets: Their offsets.
        names: What is trained of them.
        nats: Sum over offsets of the best cross-entropy on the validation text.
        step: The step at which it was found.
        best: The values then.
    """

    offsets: Sequence[int]
    names: Sequence[str]
    nats: float = math.inf
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)


class TrainingLoop:
    """One training in progress.

    Attributes:
        step: Steps taken.
        tokens: Tokens seen.
        rows: The learning curve so far.
        values: What is trained, by name: `heads.…` and, of adapters, `model.…`.
        groups: What the validation text selects as a whole.
    """

    def __init__(
        self,
        objective: Objective,
        data: Data,
        recipe: Recipe,
        added: Mapping[str, nn.Parameter],
        before: Sequence[Row],
    ) -> None:
        """Make ready a training from its first step.

        Args:
            objective: The loss of the heads.
            data: Text to train and to validate on.
            recipe: How to train.
            added: Parameters of the model's adapters, by name; none on a frozen model.
            before: The learning curve of the warm-up.
        """
        self.objective, self.data, self.recipe = objective, data, recipe
        self.per_epoch = math.ceil(len(data.train.token_ids) / recipe.batch_size)
        self.total = max(1, round(self.per_epoch * recipe.epochs * recipe.length))
        marks = range(recipe.evaluations + 1)
        self.marks = {round(self.total * mark / recipe.evaluations) for mark in marks}
        self.step = self.tokens = 0
        self.sums: dict[int, list[float]] = {}
        self.rows = list(before)
        self.first = (before[-1].step, before[-1].tokens) if before else (0, 0)
        self.joint = bool(added)
        heads = dict(objective.heads.named_parameters())
        self.stage = ("joint" if added else "heads") if heads else "model"
        self.values = {f"heads.{name}": p for name, p in heads.items()}
        self.values |= {f"model.{name}": p for name, p in added.items()}
        self.groups = _groups(objective.heads, tuple(self.values), joint=self.joint)
        self.optimizer = self._optimizer(list(added.values()))
        self.optimizer.zero_grad()  # of what was done with the heads before

    @property
    def rate(self) -> float:
        """The model's rate at this step: a half cosine from the highest to 0."""
        return self.recipe.learning_rate * (1 + math.cos(math.pi * self.step / self.total)) / 2

    @property
    def finished(self) -> bool:
        """Whether there is no step left."""
        return self.step == self.total

    def run(self) -> Iterator[None]:
        """Take steps to the end; yield behind each evaluation."""
        self.clock = time.perf_counter(), self.tokens
        if not self.groups[0].best:
            self.evaluate()
            yield
        while not self.finished:
            self.advance()
            if self.step in self.marks:
                self.evaluate()
                yield

    def advance(self) -> None:
        """Take one step."""
        epoch, number = divmod(self.step, self.per_epoch)
        seed = (1000 * self.recipe.seed + epoch) % (LARGEST_SEED + 1)
        draw = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.data.train.token_ids), generator=draw)
        size = self.recipe.batch_size
        rows = order[number * size : (number + 1) * size]
        batch = self.data.train.take(rows, self.objective.device)
        for offset, nats in self.objective.backward(batch, joint=self.joint).items():
            self.sums.setdefault(offset, []).append(nats)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["factor"]
            nn.utils.clip_grad_norm_(group["params"], CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.tokens += batch.token_ids.numel()

    def evaluate(self) -> None:
        """Add to the learning curve; keep the weights of the start, or of the end if better."""
        nats = self._validate()
        self._note("train", {k: sum(steps) / len(steps) for k, steps in sorted(self.sums.items())})
        self._note("validation", nats)
        self.sums = {}
        if self.step not in (0, self.total):
            return  # the rate is still high
        for group in self.groups:
            total = sum(nats[offset] for offset in group.offsets)
            if total < group.nats:
                group.nats, group.step = total, self.step
                group.best = {name: self.values[name].detach().clone() for name in group.names}

    @property
    def progress_line(self) -> str:
        """What a person should see of the last evaluation."""
        start, tokens = self.clock
        pace = (self.tokens - tokens) / max(time.perf_counter() - start, 1e-9)
        rows = self.rows[-len(self.objective.heads.offsets) :]
        nats = ", ".join(f"t+{row.offset} {row.nats:.3f}" for row in rows)
        return (
            f"  {self.recipe.name} ({self.stage}) step {self.step}/{self.total}: "
            f"{nats} nats, {pace:,.0f} tokens/s"
        )

    def save(self, path: Path, key: str) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "key": key,
            "values": {name: p.detach() for name, p in self.values.items()},
            "optimizer": self.optimizer.state_dict(),
            "rows": [dataclasses.astuple(row) for row in self.rows],
            "parts": [(group.nats, group.step, group.best) for group in self.groups],
            **{name: getattr(self, name) for name in STATE},
        }
        write_checked(path, lambda temporary: torch.save(state, temporary))

    def restore(self, path: Path, key: str) -> None:
        """Go on from a checkpoint if there is one."""
        if not path.exists():
            return
        state = _loaded(path, self.objective.device)
        if state.get("key") != key:
            raise RunError(
                f"{path} is of another training: another recipe, text or model, or heads "
                "that start otherwise. Name another file, or remove it"
            )
        self._put(state["values"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows = [Row(*row) for row in state["rows"]]
        for group, kept in zip(self.groups, state["parts"], strict=True):
            group.nats, group.step, group.best = kept
        for name in STATE:
            setattr(self, name, state[name])

    def finish(self) -> History:
        """Put the best weights in place."""
        for group in self.groups:
            self._put(group.best)
        steps = {
            offset: self.first[0] + group.step for group in self.groups for offset in group.offsets
        }
        return History(tuple(self.rows), steps)

    def _optimizer(self, added: list[nn.Parameter]) -> torch.optim.AdamW:
        """Return AdamW, with a parameter group for each group of heads and one for adapters.

        Each is clipped by itself: a head by its own gradient alone where it shares nothing.
        """
        rate_factor = self.recipe.head_rate_factor
        in_groups = [
            ([self.values[name] for name in group.names if name.startswith("heads.")], rate_factor)
            for group in self.groups
        ]
        in_groups.append((added, 1.0))
        return torch.optim.AdamW(
            [{"params": params, "factor": factor} for params, factor in in_groups if params],
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.values[name].copy_(value)

    def _validate(self) -> dict[int, float]:
        sums, counts = defaultdict[int, float](float), Counter[int]()
        blocks = self.data.validation
        for first in range(0, len(blocks.token_ids), self.recipe.batch_size):
            rows = slice(first, first + self.recipe.batch_size)
            batch_sums = self.objective.summed_nats(blocks.take(rows, self.objective.device))
            for offset, (nats, count) in batch_sums.items():
                sums[offset] += nats
                counts[offset] += count
        return {offset: sums[offset] / counts[offset] for offset in sorted(counts)}

    def _note(self, part: str, nats: Mapping[int, float]) -> None:
        step, tokens = self.first[0] + self.step, self.first[1] + self.tokens
        rate = self.optimizer.param_groups[0]["factor"] * self.rate
        self.rows += [Row(self.stage, step, tokens, part, k, x, rate) for k, x in nats.items()]


def _groups(heads: Trainable, names: Sequence[str], *, joint: bool) -> list[SelectionGroup]:
    """Return what is selected as a whole: all heads, or on a frozen backbone each by itself."""
    if joint or not isinstance(heads, Heads):
        return [SelectionGroup(heads.offsets, names)]
    return [
        SelectionGroup((offset,), [f"heads.{name}" for name in of_head])
        for offset, of_head in heads.named_parts()
    ]


def _loaded(path: Path, device: torch.device) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):  # torch's own errors about other files are any that there are
        raise RunError(f"{path} is not a checkpoint; name another file, or remove it")
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state

"""What tests of training share: a small text to learn, and worlds that always begin the same."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.activations.backbone import Backbone
from probekit.data.blocks import Blocks
from probekit.data.targets import text_targets
from probekit.heads.heads import Heads
from probekit.heads.kinds import HeadConfig
from probekit.heads.training import lora
from probekit.heads.training.recipes import RECIPES, Recipe
from probekit.heads.training.train import Data, History, TokenBatch, train
from probekit.models.anatomy import Anatomy, find_anatomy
from support.architectures import build

# Symbols of the text: each block counts on from a random one.
SYMBOLS, LENGTH = 8, 12

QUICK: dict[str, Any] = {
    "products": "model", "batch_size": 4, "evaluations": 2, "learning_rate": 1e-2, "rank": 2,
}  # fmt: skip


def recipe(name: str, **changes: Any) -> Recipe:
    return replace(RECIPES[name], **(QUICK | changes))


def batches(n: int, seed: int, horizon: int = 2) -> TokenBatch:
    draw = torch.Generator().manual_seed(seed)
    ids = 3 + (torch.randint(SYMBOLS, (n, 1), generator=draw) + torch.arange(LENGTH)) % SYMBOLS
    blocks = Blocks(ids, torch.arange(n)[:, None].repeat(1, LENGTH))
    return TokenBatch(ids, text_targets(blocks, horizon))


DATA = Data(batches(16, seed=0), batches(8, seed=1))


class World:
    """A model and heads for offsets 1 and 2, always the same ones."""

    def __init__(self, name: str = "llama", *, read: Any = 2, offsets: int = 2) -> None:
        self.model: PreTrainedModel = build(name)
        self.anatomy: Anatomy = find_anatomy(self.model)
        self.backbone = Backbone(self.model, self.anatomy)
        self.before = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.heads = Heads(
            HeadConfig("block", read),
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
        return train(self.heads, self.backbone, data, asked, folder / "x.pt", silent)

    def moved(self) -> set[str]:
        """Names of base weights that are not what they were, bit for bit."""
        now = {k.replace(".base_layer.", "."): v for k, v in self.model.state_dict().items()}
        return {k for k, v in self.before.items() if not torch.equal(now[k], v)}

    def values(self) -> dict[str, Tensor]:
        found = dict(self.heads.named_parameters()) | lora.parameters(self.model)
        return {name: p.detach().clone() for name, p in found.items()}


def silent(_: str) -> None:
    pass


def validation(history: History, offset: int) -> list[float]:
    curve = history.curve
    rows = curve[(curve["part"] == "validation") & (curve["offset"] == offset)]
    return [float(nats) for nats in rows["nats"]]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def subfolder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name

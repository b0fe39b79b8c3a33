"""Recipes: how heads, or the model itself, are trained, and at which rate.

    name                  trained                            heads at   warm-up   read
    heads-only            heads, on the frozen model         1 x        -         one layer
    joint                 heads and LoRA on q, k, v          1 x        -         one layer
    joint-warmup          the same                           1 x        1 epoch   one layer
    joint-diff            the same                           4 x        -         one layer
    joint-warmup-diff     the same                           4 x        1 epoch   one layer
    joint-diff-whs        the same                           4 x        -         all, weighted
    joint-diff-whs-rms    the same                           4 x        -         the same, normed
    finetune              LoRA in all blocks, next token     -          -         -
    heads-on-finetuned    heads, on the frozen result of
                          `finetune`                         1 x        -         one layer
    heads-from-probes     heads that start as linear
                          probes, on the frozen model        1 x        -         one layer
    joint-from-probes     the same and LoRA on q, k, v       1 x        -         one layer

Source: Mehra, Alonso Garcia, Mauch (2025), Table 1 and appendix A; the last three rows are not
theirs, nor is joint-diff-whs-rms, which they leave for later. There, heads on the frozen model
are held against a baseline that was finetuned; and heads that start from random weights are
behind a linear probe until they have seen much text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from probekit.errors import SettingsError

Balance = Literal["rms", "none"]
Products = Literal["auto", "model", "bfloat16"]

COUNTS = ("epochs", "batch_size", "rank", "evaluations")
POSITIVE = ("learning_rate", "head_rate_factor", "alpha", "length")


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        name: What to call it in tables.
        joint: Whether the model is trained too, by LoRA; without heads it must be.
        warmup_epochs: Epochs on the frozen model before joint training.
        head_rate_factor: Rate of the heads as a multiple of that of the model.
        mix: Whether the heads read all layers, weighted (weighted hidden states).
        normalise: Whether each layer is divided by its root mean square before it is weighted.
        finetuned: Whether the heads stand on a model that was finetuned, then frozen.
        probed: Whether heads beyond offset 1 start as the linear probe of the layer they read.
        balance: `rms`: each head's loss is rescaled, in each batch, to the root mean square
            that the first head's has over positions; `none`: the plain sum.
        epochs: Passes over the training text.
        length: Share of their steps that is taken; the cosine ends there.
        batch_size: Blocks in a step.
        rates: Multiples of the rate that `search` tries, together with shorter lengths; none
            where rate and length are as they should be.
        learning_rate: Highest rate of the model, at the first step; it falls to 0 by a cosine.
        weight_decay: Of AdamW.
        rank: Rank of LoRA.
        alpha: LoRA's sum is scaled by alpha / rank.
        evaluations: How often validation is asked, and a checkpoint written, in the course of
            the training; by `search` in the course of the longest.
        seed: Seed of the order of blocks and of LoRA's first values.
        products: The dtype of matrix products: the model's, `bfloat16` (what is trained stays
            as it is), or `auto`: bfloat16 on a GPU, and on a CPU that has it for the
            unembedding alone.
    """

    name: str
    joint: bool = True
    warmup_epochs: int = 0
    head_rate_factor: float = 1.0
    mix: bool = False
    normalise: bool = False
    finetuned: bool = False
    probed: bool = False
    balance: Balance = "rms"
    epochs: int = 1
    length: float = 1.0
    batch_size: int = 64
    rates: tuple[float, ...] = ()
    learning_rate: float = 1.5e-4
    weight_decay: float = 0.01
    rank: int = 8
    alpha: float = 16.0
    evaluations: int = 4
    seed: int = 0
    products: Products = "auto"

    def __post_init__(self) -> None:
        for name, allowed, holds in (
            *((name, "at least 1", getattr(self, name) >= 1) for name in COUNTS),
            *((name, "above 0", getattr(self, name) > 0) for name in POSITIVE),
            ("warmup_epochs", "at least 0", self.warmup_epochs >= 0),
            ("weight_decay", "at least 0", self.weight_decay >= 0),
            ("balance", "rms or none", self.balance in get_args(Balance)),
            ("products", "auto, model or bfloat16", self.products in get_args(Products)),
        ):
            if not holds:
                raise SettingsError(f"{name} must be {allowed}, got {getattr(self, name)!r}")
        if self.warmup_epochs and not self.joint:
            raise SettingsError("warmup_epochs come before joint training; heads alone have none")

    def warmup(self) -> "Recipe":
        """Return the recipe of the warm-up: the heads alone, as long as it says, at its rate.

        >>> RECIPES["joint-warmup-diff"].warmup().head_rate_factor
        1.0
        """
        return replace(
            self, joint=False, warmup_epochs=0, head_rate_factor=1.0, epochs=self.warmup_epochs
        )


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("heads-only", joint=False),
        Recipe("joint"),
        Recipe("joint-warmup", warmup_epochs=1),
        Recipe("joint-diff", head_rate_factor=4.0),
        Recipe("joint-warmup-diff", warmup_epochs=1, head_rate_factor=4.0),
        Recipe("joint-diff-whs", head_rate_factor=4.0, mix=True),
        Recipe("joint-diff-whs-rms", head_rate_factor=4.0, mix=True, normalise=True),
        Recipe("finetune"),
        Recipe("heads-on-finetuned", joint=False, finetuned=True),
        Recipe("heads-from-probes", joint=False, probed=True),
        Recipe("joint-from-probes", probed=True),
    )
}

# Table 2 of the paper. Its rule is half the rate of the pretraining: the last two are not.
TABLE_RATES = {"410m": 1.5e-4, "1b": 1.5e-4, "1.4b": 8e-5, "2.8b": 6e-6}

# Of Pythia; from the readme of github.com/EleutherAI/pythia.
PRETRAINING_RATES = {
    "14m": 1e-3, "31m": 1e-3, "70m": 1e-3, "160m": 6e-4, "410m": 3e-4, "1b": 3e-4,
    "1.4b": 2e-4, "2.8b": 1.6e-4, "6.9b": 1.2e-4, "12b": 1.2e-4,
}  # fmt: skip

RATES: Mapping[str, Mapping[str, float]] = {
    "paper-table": TABLE_RATES,
    "paper-rule": {size: rate / 2 for size, rate in PRETRAINING_RATES.items()},
}

# Rates of pretraining fall about with the width: half of Pythia's, times the width, is between
# 0.15 and 0.31 from 70M to 12B, and 0.2 for the built-in ladder.
RATE_TIMES_WIDTH = 0.2

# A few embeddings alone learn far faster than weights do. On the built-in ladder 0.3 was better
# than 0.1 and 1. Source: Lester, Al-Rfou, Constant (2021), "The power of scale for
# parameter-efficient prompt tuning".
QUERY_RATE = 0.3


def query_rate_factor(d_model: int) -> float:
    """Return how much faster queries learn than a model of some width does.

    >>> round(query_rate_factor(128) * learning_rate("width", "any", d_model=128), 6)
    0.3
    """
    return QUERY_RATE * d_model / RATE_TIMES_WIDTH


def learning_rate(preset: str, model: str, d_model: int) -> float:
    """Return the learning rate of a preset.

    Args:
        preset: `paper-table`, `paper-rule`, or `width`, which suits any model.
        model: Name of the model, such as `EleutherAI/pythia-410m`.
        d_model: Its width.

    Raises:
        SettingsError: If there is no such preset, or it does not know the model.

    >>> learning_rate("paper-table", "EleutherAI/pythia-2.8b", d_model=2560)
    6e-06
    >>> learning_rate("paper-rule", "EleutherAI/pythia-2.8b", d_model=2560)
    8e-05
    """
    if preset == "width":
        return RATE_TIMES_WIDTH / d_model
    if preset not in RATES:
        raise SettingsError(f"preset must be {', '.join(RATES)} or width, got {preset!r}")
    family, _, size = model.rpartition("/")[2].lower().removesuffix("-deduped").rpartition("-")
    if family != "pythia" or size not in RATES[preset]:
        raise SettingsError(
            f"the rates of {preset} are of Pythia {', '.join(RATES[preset])}, got {model!r}; "
            "take `width`, or give a rate"
        )
    return RATES[preset][size]

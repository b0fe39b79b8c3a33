"""Settings of a study of heads: those of any run, and how heads are built and trained.

A field's name, hyphenated, is its flag on the command line; of `strategies` it is `--strategy`.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from probekit.errors import SettingsError
from probekit.fields import flag
from probekit.heads.training.recipes import RECIPES
from probekit.settings import RunSettings

# The reference: the model finetuned, then marginalized. It is always among the strategies.
BASELINE = "finetune"
FROZEN = "heads-only"
DEFAULT = (FROZEN, "joint", "heads-from-probes", "joint-from-probes")
# Queries ask a model as it is; what a model brings along is not trained at all.
STRATEGIES_OF: Mapping[str, tuple[str, ...]] = {
    "query": (FROZEN, "heads-on-finetuned"),
    "native": (),
}
# Fields that not every kind of heads has: queries and native heads go through the whole model.
KINDS_WITH: Mapping[str, tuple[str, ...]] = {
    "init": ("block",),
    "read": ("block", "medusa", "linear"),
    "own_unembedding": ("medusa",),
}


@dataclass(frozen=True)
class HeadSettings(RunSettings):
    """Settings of `probekit heads`: those of any run, and how heads are built and trained.

    Attributes:
        strategies: How heads are trained: names of strategies; by default
            those that kind and init allow of heads-only and joint, which start alike, and
            heads-from-probes and joint-from-probes, which do too. The finetuned, marginalized
            model and the linear probe of the layer read are always scored beside them.
        kind: `block`, `medusa`, `linear`, `query`, or `native`: nothing is trained, what the
            model brings along is scored.
        init: How block heads beyond offset 1 start: `random`, `copy` of the model's last
            block, or `zero` as the identity; with `zero`, heads of the sweep start as the
            linear probe of their layer.
        read: Layer that heads read, by default the one before the last block; mixtures read
            all.
        own_unembedding: Give each Medusa head an unembedding of its own, the model's at first.
        epochs: Passes over the training text, at most.
        step_blocks: Blocks in an optimizer step.
        rate: Learning rate of the model: a number, or `width`, `paper-table` or `paper-rule`.
            Heads learn at it or a multiple of it; queries, with `width`, at 0.3. With `width`
            twice and four times as much are tried too; the paper's presets take `epochs` as
            they are, else a quarter and half as long is tried, and validation chooses.
        seeds: How many seeds, from `seed` on, strategies are trained with; from 2 on their
            variance is part of the intervals.
        sweep: `default`: also train block heads at offset 2 at several layers, beside linear
            probes; or `none`.
    """

    offsets: int = 2
    strategies: tuple[str, ...] = field(default=(), metadata={"flag": "strategy"})
    kind: Literal["block", "medusa", "linear", "query", "native"] = "block"
    init: Literal["random", "copy", "zero"] = "zero"
    read: int | None = None
    own_unembedding: bool = False
    epochs: int = 1
    step_blocks: int = 2
    rate: float | Literal["width", "paper-table", "paper-rule"] = "width"
    seeds: int = 1
    sweep: Literal["default", "none"] = "default"

    command: ClassVar[str] = "heads"
    least: ClassVar[Mapping[str, int]] = {
        **RunSettings.least,
        "epochs": 1,
        "step_blocks": 1,
        "seeds": 1,
    }
    # Heads need more text than probes.
    tokens_on_cpu: ClassVar[int] = 40_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.read is not None and self.read < 0:
            raise SettingsError(f"--read must be a layer, 0 or more, got {self.read!r}")
        if not isinstance(self.rate, str):
            if not (math.isfinite(self.rate) and self.rate > 0):
                raise SettingsError(f"--rate must be above 0, got {self.rate}")
            object.__setattr__(self, "rate", float(self.rate))
        object.__setattr__(self, "strategies", _strategies(self))
        _require_of_kind(self)
        _require_marginalized_ahead(self)

    @property
    def may_start_as_probes(self) -> bool:
        """Whether heads can start as linear probes, which share the model's unembedding."""
        return self.init == "zero" and not self.own_unembedding

    @property
    def trained(self) -> tuple[str, ...]:
        """The strategies that train heads."""
        return tuple(name for name in self.strategies if name != BASELINE)


def _strategies(settings: HeadSettings) -> tuple[str, ...]:
    """Return the baseline and what is trained, in the order asked for, each once."""
    names, kind = settings.strategies, settings.kind
    allowed = STRATEGIES_OF.get(kind, tuple(name for name in RECIPES if name != BASELINE))
    for name in names:
        if name not in RECIPES:
            raise SettingsError(f"--strategy must be one of {', '.join(RECIPES)}, got {name!r}")
        if name not in (*allowed, BASELINE):
            possible = ", ".join(allowed) or "none"
            raise SettingsError(f"{kind} heads allow the strategies {possible}, got {name}")
        if RECIPES[name].probed and not settings.may_start_as_probes:
            raise SettingsError(
                f"heads of {name} start as the identity and share the unembedding: take --init "
                "zero, and no --own-unembedding"
            )
    usual = tuple(
        name
        for name in DEFAULT
        if name in allowed and (settings.may_start_as_probes or not RECIPES[name].probed)
    )
    return tuple(dict.fromkeys((BASELINE, *(names or usual))))


def _require_of_kind(settings: HeadSettings) -> None:
    """Raise where something is set that this kind of heads does not have."""
    for one in dataclasses.fields(settings):
        kinds = KINDS_WITH.get(one.name, (settings.kind,))
        if getattr(settings, one.name) != one.default and settings.kind not in kinds:
            raise SettingsError(
                f"{flag(one)} is for {', '.join(kinds)} heads, got it for {settings.kind}"
            )


def _require_marginalized_ahead(settings: HeadSettings) -> None:
    if settings.offsets < 2:
        raise SettingsError(
            f"--offsets must be at least 2, got {settings.offsets}: at offset 1 the model itself "
            "is the head"
        )
    if settings.marginal == "off":
        raise SettingsError(
            "--marginal must be nucleus, top or sample: the marginalized model is what heads are "
            "held against"
        )

"""What can be asked of a study of heads, beside what any run can be asked.

A field's name, hyphenated, is its flag on the command line.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from probekit.errors import SettingsError
from probekit.heads.training.recipes import RATES, RECIPES
from probekit.settings import Settings, from_mapping, toml

# The reference: the model finetuned, then marginalized. It is always among the strategies.
BASELINE = "finetune"
FROZEN = "heads-only"
DEFAULT = (FROZEN, "heads-from-probes", "joint", "joint-diff-whs", "heads-on-finetuned")
# Queries ask a model as it is; what a model brings along is not trained at all.
STRATEGIES_OF: Mapping[str, tuple[str, ...]] = {
    "query": (FROZEN, "heads-on-finetuned"),
    "native": (),
}

KINDS = ("block", "medusa", "linear", "query", "native")
# Fields that not every kind of heads has: queries and native heads go through the whole model.
KINDS_WITH: Mapping[str, tuple[str, ...]] = {
    "init": ("block",),
    "read": ("block", "medusa", "linear"),
    "own_unembedding": ("medusa",),
}
INITS = ("random", "copy", "zero")
SWEEPS = ("default", "none")
PRESETS = ("width", *RATES)
LEAST = {"epochs": 1, "step_blocks": 1}

# Fields of `Settings` that mean something here, in the order of the help text.
SHARED = (
    "model", "revision", "dtype", "device", "batch_size", "trust_remote_code", "text",
    "text_field", "source_field", "target_field", "limit", "max_tokens", "block", "offsets",
    "marginal", "nucleus", "max_branches", "marginal_positions", "seed",
)  # fmt: skip
# What this command takes where nobody says otherwise: heads need more text than probes.
USUAL: Mapping[str, Any] = {"offsets": 2}
TOKENS_ON_CPU = 40_000


@dataclass(frozen=True)
class HeadSettings:
    """Settings of `probekit heads`, beside those of any run.

    Attributes:
        strategies: How heads are trained: names of `recipes.RECIPES`; by default
            those that kind and init allow of heads-only, heads-from-probes, joint,
            joint-diff-whs and heads-on-finetuned. The finetuned, marginalized model is
            always scored beside them.
        kind: `block`, `medusa`, `linear`, `query`, or `native`: nothing is trained, what the
            model brings along is scored.
        init: How block heads beyond offset 1 start: `random`, `copy` of the model's last
            block, or `zero` as the identity; with `zero`, heads of the sweep start as the
            linear probe of their layer.
        read: Layer that heads read, by default the one before the last block; mixtures read
            all.
        epochs: Passes over the training text.
        step_blocks: Blocks in an optimizer step.
        own_unembedding: Give each Medusa head an unembedding of its own, the model's at first.
        rate: Learning rate of the model: a number, or `width`, `paper-table` or `paper-rule`.
            Heads learn at it or a multiple of it; queries, with `width`, at 0.3.
        sweep: `default`: also train block heads at offset 2 at several layers, beside linear
            probes; or `none`.
    """

    strategies: tuple[str, ...] = ()
    kind: str = "block"
    init: str = "zero"
    read: int | None = None
    own_unembedding: bool = False
    epochs: int = 2
    step_blocks: int = 2
    rate: str | float = "width"
    sweep: str = "default"

    def __post_init__(self) -> None:
        for name, allowed in (("kind", KINDS), ("init", INITS), ("sweep", SWEEPS)):
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"--{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name, least in LEAST.items():
            if not _is_count(getattr(self, name), least):
                flag = name.replace("_", "-")
                raise SettingsError(f"--{flag} must be at least {least}, got {getattr(self, name)}")
        if self.read is not None and not _is_count(self.read, 0):
            raise SettingsError(f"--read must be a layer, 0 or more, got {self.read!r}")
        _require_rate(self.rate)
        object.__setattr__(self, "strategies", _chosen(self))
        _require_of_kind(self)

    @property
    def may_start_as_probes(self) -> bool:
        """Whether heads can start as linear probes, which share the model's unembedding."""
        return self.init == "zero" and not self.own_unembedding

    @property
    def trained(self) -> tuple[str, ...]:
        """The strategies that train heads."""
        return tuple(name for name in self.strategies if name != BASELINE)


def split(given: Mapping[str, Any]) -> tuple[Settings, HeadSettings]:
    """Part keys and values into what any run is asked and what a study of heads is asked.

    Raises:
        SettingsError: If a key is unknown here (the nearest is suggested) or a value not
            allowed.
    """
    own = [field.name for field in dataclasses.fields(HeadSettings)]
    for key in given:
        if key not in own and key not in SHARED:
            near = get_close_matches(key, [*own, *SHARED], n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise SettingsError(
                f"heads know no setting {key!r}. {hint}They are {', '.join([*SHARED, *own])}"
            )
    settings = from_mapping({**USUAL, **{k: v for k, v in given.items() if k in SHARED}})
    _require_ahead(settings)
    return settings, HeadSettings(**{k: _typed(k, v) for k, v in given.items() if k in own})


def _typed(name: str, value: Any) -> Any:
    """Return a value as its field has it, where a file or a caller says it otherwise."""
    if name == "strategies" and isinstance(value, str):
        raise SettingsError(f"strategies must be a list of names, got {value!r}")
    if name == "rate" and isinstance(value, bool):
        raise SettingsError(f"--rate must be a number or a preset, got {value}")
    if name == "rate" and isinstance(value, int):
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def as_toml(settings: Settings, asked: HeadSettings) -> str:
    """Return a run.toml from which the study can be repeated."""
    lines = [line for line in settings.as_toml().splitlines() if line.partition(" = ")[0] in SHARED]
    own = {name: value for name, value in dataclasses.asdict(asked).items() if value is not None}
    own["strategies"] = list(asked.strategies)
    lines += [f"{name} = {toml(value)}" for name, value in own.items()]
    return "\n".join(lines) + "\n"


def _chosen(asked: HeadSettings) -> tuple[str, ...]:
    """Return the baseline and what is trained, in the order asked for, each once."""
    names, kind = asked.strategies, asked.kind
    allowed = STRATEGIES_OF.get(kind, tuple(name for name in RECIPES if name != BASELINE))
    for name in names:
        if name not in RECIPES:
            raise SettingsError(f"--strategy must be one of {', '.join(RECIPES)}, got {name!r}")
        if name not in (*allowed, BASELINE):
            possible = ", ".join(allowed) or "none"
            raise SettingsError(f"{kind} heads allow the strategies {possible}, got {name}")
        if RECIPES[name].probed and not asked.may_start_as_probes:
            raise SettingsError(
                f"heads of {name} start as the identity and share the unembedding: take --init "
                "zero, and no --own-unembedding"
            )
    usual = tuple(
        name
        for name in DEFAULT
        if name in allowed and (asked.may_start_as_probes or not RECIPES[name].probed)
    )
    return tuple(dict.fromkeys((BASELINE, *(names or usual))))


def _require_of_kind(asked: HeadSettings) -> None:
    """Raise where something is asked for that this kind of heads does not have."""
    for name, kinds in KINDS_WITH.items():
        unset = next(f.default for f in dataclasses.fields(asked) if f.name == name)
        if getattr(asked, name) != unset and asked.kind not in kinds:
            flag = name.replace("_", "-")
            raise SettingsError(
                f"--{flag} is for {', '.join(kinds)} heads, got it for {asked.kind}"
            )


def _require_rate(rate: str | float) -> None:
    if isinstance(rate, str):
        if rate not in PRESETS:
            names = ", ".join(PRESETS)
            raise SettingsError(f"--rate must be a number or one of {names}, got {rate!r}")
    elif not (math.isfinite(rate) and rate > 0):
        raise SettingsError(f"--rate must be above 0, got {rate}")


def _require_ahead(settings: Settings) -> None:
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


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least

"""Settings of a run: frozen records, their fields the keys of run.toml.

A field's name, hyphenated, is its flag on the command line.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from probekit import toml
from probekit.errors import SettingsError
from probekit.fields import LARGEST, kinds, require_kind, require_within

LARGEST_SEED = LARGEST
# What a run.toml says first.
COMMAND = "# Settings of probekit "

Family = Literal["linear", "linear-full", "linear-lowrank", "concat", "mlp", "sklearn"]
Further = Literal["jacobian-lens", "mask-token", "transplant"]
Site = Literal["resid_post", "resid_mid", "attn_out", "mlp_out"]

TOKENS_ELSEWHERE = 200_000
# Positions of each text that are marginalized by default, and fewer where each takes a CPU long:
# two seconds of SmolLM2-135M's, 64 branches to four offsets.
MARGINALIZED, MARGINALIZED_ON_CPU = 230, 100
SMALL_PARAMETERS = 20_000_000
# Offsets that are marginalized by default.
MARGINALIZED_OFFSETS = 4

AnySettings = TypeVar("AnySettings", bound="RunSettings")


@dataclass(frozen=True)
class RunSettings:
    """Settings of any run: the model, the text and how it is marginalized.

    Attributes:
        model: Short name, Hub repository, folder (of a model or an adapter) or file of GGUF.
        revision: Branch, tag or commit of a Hub repository.
        dtype: `auto`: float32 on a CPU, the checkpoint's on a GPU.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        batch_size: Blocks in a forward pass, or `auto`.
        trust_remote_code: Run code that comes with the model.
        quantization: `auto`: as the checkpoint is; `bnb-4bit` or `bnb-8bit` (bitsandbytes).
        text: Texts as [NAME=]PATH, or preset:NAME; none for the built-in text.
        text_field: Name of the text or chat in a JSONL object, parquet or Hub row.
        source_field: Name of the source in a row of pairs (`translation.de` goes into an object).
            A text whose first row has both is pairs: the target alone is trained on and scored.
        target_field: Name of the target in a row of pairs.
        pair_template: A text with {source}, and {target} at its end or left out. `paper`: its
            request to translate from German to English. `auto`: the source and a line of dashes,
            or, where both fields end in codes of languages (`translation.de`), that for these.
        chat_turns: What is trained on and scored of chats, rows with a list of `messages`: what
            the `assistant` says, or `all`. They go through the tokenizer's chat template.
        limit: Documents, pairs or chats read from each text.
        max_tokens: Tokens taken from each text.
        block: Tokens in a block, BOS included.
        separator: What stands between documents in a block: `eos` (the end token, and BOS behind
            that), `bos` (BOS alone), `none`, or `auto`: what costs the model least, measured on
            training text. It is a target where the model foresees it better than a guess.
        offsets: The horizon: offsets 1 … this are measured.
        marginal: How marginalization keeps paths: `nucleus`, `top` or `off`.
        nucleus: Share of the joint mass that `nucleus` keeps, in (0, 1].
        max_branches: Most paths of a position.
        marginal_positions: Positions of each text that are marginalized. Unset, 230, and 100
            where a model of above 20 million parameters runs on a CPU.
        seed: Seed of every random choice.
    """

    model: str = "tiny"
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    device: str = "auto"
    batch_size: int | Literal["auto"] = "auto"
    trust_remote_code: bool = False
    quantization: Literal["auto", "bnb-4bit", "bnb-8bit"] = "auto"
    text: tuple[str, ...] = ()
    text_field: str = "text"
    source_field: str = "source"
    target_field: str = "target"
    pair_template: str = "auto"
    chat_turns: Literal["assistant", "all"] = "assistant"
    limit: int | None = None
    max_tokens: int | None = None
    block: int = 256
    separator: Literal["auto", "eos", "bos", "none"] = "auto"
    offsets: int = 4
    marginal: Literal["nucleus", "top", "off"] = "nucleus"
    nucleus: float = 0.99
    max_branches: int = 64
    marginal_positions: int | None = None
    seed: int = 0

    # The command that they are of.
    command: ClassVar[str] = "analyze"
    # The least value that a field may have, by its name.
    least: ClassVar[Mapping[str, int]] = {
        "limit": 1,
        "max_tokens": 1,
        "offsets": 1,
        "max_branches": 1,
        "marginal_positions": 1,
        "batch_size": 1,
        "block": 3,  # BOS, a position and its target
        "seed": 0,
    }
    # The largest, where more would take more memory than any machine has.
    most: ClassVar[Mapping[str, int]] = {"block": 2**20, "max_branches": 2**16, "seeds": 1000}
    # Tokens of each text on a CPU where `max_tokens` is unset. The built-in analysis is to take
    # a minute there: fewer tokens then, never fewer optimizer steps.
    tokens_on_cpu: ClassVar[int] = 13_500

    def __post_init__(self) -> None:
        names = [field.name for field in dataclasses.fields(self)]
        self.require_allowed({name: getattr(self, name) for name in names})
        if not 0 < self.nucleus <= 1:
            raise SettingsError(f"--nucleus must be in (0, 1], got {self.nucleus}")
        if self.offsets > self.block - 2:
            raise SettingsError(
                f"--offsets must be in 1..{self.block - 2} for blocks of {self.block} tokens, "
                f"got {self.offsets}: ask for fewer offsets or a longer --block"
            )

    @property
    def marginalized(self) -> int:
        """The farthest offset that is marginalized; 1 where none is."""
        return 1 if self.marginal == "off" else self.offsets

    @classmethod
    def from_mapping(cls: type[AnySettings], values: Mapping[str, Any]) -> AnySettings:
        """Return settings from keys and values, lists taken as tuples.

        Raises:
            SettingsError: If a key is unknown (the nearest is suggested) or a value not allowed.
        """
        given = _as_fields(values)
        cls.require_allowed(given)
        fractions = [f.name for f in dataclasses.fields(cls) if float in kinds(f.type)]
        whole = {name: given[name] for name in fractions if isinstance(given.get(name), int)}
        return cls(**given | {name: float(value) for name, value in whole.items()})

    @classmethod
    def require_allowed(cls, values: Mapping[str, Any]) -> None:
        """Raise if a key is unknown, or a value by itself not allowed.

        Raises:
            SettingsError: If one is.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key, value in values.items():
            if key not in fields:
                near = get_close_matches(key, fields, n=1)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise SettingsError(
                    f"unknown setting {key!r}. {hint}The settings are {', '.join(fields)}"
                )
            require_kind(fields[key], value)
            require_within(fields[key], value, cls.least, cls.most)

    def as_toml(self) -> str:
        """Return the settings as a run.toml from which the run can be repeated.

        >>> print(Settings(layers=(0, 6)).as_toml().splitlines()[-9])
        layers = [0, 6]
        """
        lines = [f"{COMMAND}{self.command}"]
        for name, value in dataclasses.asdict(self).items():
            if value is not None:
                shown = list(value) if isinstance(value, tuple) else value
                lines.append(f"{name} = {toml.written(shown)}")
        return "\n".join(lines) + "\n"

    def differing(self, other: "RunSettings") -> list[str]:
        """Return the names of the fields that differ."""
        names = [field.name for field in dataclasses.fields(self)]
        return [name for name in names if getattr(self, name) != getattr(other, name)]


@dataclass(frozen=True)
class Settings(RunSettings):
    """Settings of `probekit analyze`: those of any run, and what is probed.

    Attributes:
        layers: Layers to read, or `all`. Unset, all are read, but on a CPU no more than eleven of a
            model whose unembedding is large, from the first to the last.
        site: Where in a block: `resid_post`, `resid_mid`, `attn_out`, `mlp_out`, or several. All is
            measured at the first; at the others are linear probes alone, set beside its own.
        probe: Families of probes; `linear`, of which the findings are made, is always among them.
        readout: Further readouts, from the model alone: `jacobian-lens`, `mask-token` and, of the
            positions that are marginalized, `transplant`, which is fed the tokens between.
        controls: `default`: permuted targets and untrained blocks at offset 2, in the middle and
            at the last layer; `all` offsets and layers; or `none`.
        target: Predicted tokens: of the `text`, or the greedy continuation of the `model`.
        marginal_offsets: Marginalize t+2 … t+this. Unset, to t+4 at most: each offset more takes as
            long again, and probes alone go as far as `offsets`.
        codelength: Also measure the online codelength of the linear probes.
        causal: Also take out what a layer's probe reads of each offset from 2 on, and not of the
            next token, and measure what that costs the model: at the `best` layer before the last,
            at `all` of those read, or `none`.
        seeds: How many seeds, from `seed` on, for the readouts that depend on it: controls
            (untrained blocks are always drawn three times) and the families `mlp` and
            `linear-lowrank`.
    """

    layers: tuple[int, ...] | Literal["all"] = ()
    site: tuple[Site, ...] | Site = "resid_post"
    probe: tuple[Family, ...] = ("linear",)
    readout: tuple[Further, ...] = ()
    controls: Literal["default", "all", "none"] = "default"
    target: Literal["text", "model"] = "text"
    marginal_offsets: int | None = None
    codelength: bool = False
    causal: Literal["none", "best", "all"] = "none"
    seeds: int = 1

    least: ClassVar[Mapping[str, int]] = {**RunSettings.least, "marginal_offsets": 2, "seeds": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sites or len(set(self.sites)) < len(self.sites):
            raise SettingsError(
                f"--site must name one place in a block or several, each once, got {self.site}"
            )
        if len(self.sites) == 1:
            # One place has one spelling: the same run has the same settings.
            object.__setattr__(self, "site", self.sites[0])
        largest = LARGEST_SEED - self.seeds + 1
        if self.seed > largest:
            raise SettingsError(
                f"--seed must be at most {largest} for {self.seeds} seeds, got {self.seed}"
            )
        if self.marginal_offsets is not None and self.marginal_offsets > self.offsets:
            raise SettingsError(
                f"--marginal-offsets must be at most --offsets {self.offsets}, got "
                f"{self.marginal_offsets}: ask for more offsets or marginalize fewer"
            )
        if self.readout and self.sites[0] != "resid_post":
            raise SettingsError(
                f"--readout {self.readout[0]} reads the residual stream: it needs --site "
                f"resid_post, or that place first of several, got {','.join(self.sites)}"
            )
        if "mask-token" in self.readout and self.offsets == 1:
            raise SettingsError(
                "--readout mask-token predicts the tokens from t+2 on: it needs --offsets 2 or "
                "more, got 1. The model itself is what is read of t+1"
            )

    @property
    def sites(self) -> tuple[Site, ...]:
        """The places in a block that are read, the run's own first."""
        return self.site if isinstance(self.site, tuple) else (self.site,)

    @property
    def marginalized(self) -> int:
        """The farthest offset that is marginalized; 1 where none is."""
        return min(self.marginal_offsets or MARGINALIZED_OFFSETS, super().marginalized)


def command_of(path: Path) -> str | None:
    """Return the command whose settings a run.toml holds; None where it does not say."""
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.removeprefix(COMMAND) if first.startswith(COMMAND) else None


def from_file(path: Path, record: type[RunSettings]) -> dict[str, Any]:
    """Return keys and values of a file of settings, each of which such a record can have.

    Raises:
        SettingsError: If it cannot be read, is not TOML, or holds what is not allowed.
    """
    values = toml.read(path)
    try:
        record.require_allowed(_as_fields(values))
    except SettingsError as error:
        raise SettingsError(f"the settings {path}: {error}") from None
    return values


def _as_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}

"""A study of heads in progress: model and text, settings, finished stages.

What several stages need is computed when it is first read, and kept.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from probekit import files
from probekit.activations.backbone import Backbone
from probekit.data.documents import Split
from probekit.data.targets import Targets, text_targets
from probekit.heads.training.recipes import RECIPES, Recipe, learning_rate, query_rate_factor
from probekit.heads.training.train import Data, TokenBatch
from probekit.pipelines.head_study.settings import BASELINE, HeadSettings
from probekit.probes import ngram
from probekit.runs.ceiling import scored_positions
from probekit.runs.setup import Setup
from probekit.runs.stages import Stages
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.shapes import Mask

SPACED_LAYERS = 4
SWEPT_OFFSET = 2
# Multiples of a rate that validation chooses from: a number is what it is, and the paper's
# presets are trained by for as long as asked for.
GIVEN = (1.0,)
RATES: Mapping[str, tuple[float, ...]] = {
    "width": (1.0, 2.0, 4.0),
    "paper-table": (),
    "paper-rule": (),
}


@dataclass(frozen=True)
class Study:
    """A study of heads.

    Attributes:
        setup: Model and text.
        settings: Its settings.
        stages: Its finished stages.
        finished: Folder of the finished run whose weights are read; None in one that goes on.
        again: Further seed with which strategies are trained once more; None for the first.
    """

    setup: Setup
    settings: HeadSettings
    stages: Stages
    finished: Path | None = None
    again: int | None = None

    @cached_property
    def targets(self) -> Mapping[Split, Targets]:
        """The tokens of the text, by split."""
        blocks = self.setup.blocks
        return {part: text_targets(blocks[part], self.settings.offsets) for part in blocks}

    @cached_property
    def positions(self) -> dict[str, Mask]:
        """Test positions: all, and those at which the model is marginalized."""
        return scored_positions(self.setup, self.settings)

    @cached_property
    def data(self) -> Data:
        """Text to train on and to validate on."""
        return Data(self._text("train"), self._text("validation"))

    @cached_property
    def unigram(self) -> ngram.Unigram:
        """How often each token is a target: what bits are counted from."""
        blocks, targets = self.setup.blocks, self.targets
        train = blocks["train"].token_ids, targets["train"]
        validation = blocks["validation"].token_ids, targets["validation"]
        return ngram.fit(train, validation, self.setup.anatomy.vocab_size)[0]

    @cached_property
    def backbone(self) -> Backbone:
        """The model as it came."""
        return Backbone(self.setup.loaded.model, self.setup.anatomy)

    @property
    def seed(self) -> int:
        """Seed of training: the order of blocks, and first values that are drawn."""
        return self.settings.seed if self.again is None else self.again

    @property
    def repeated(self) -> "list[Study]":
        """The same study with each further seed of training."""
        first = self.settings.seed
        return [replace(self, again=seed) for seed in range(first + 1, first + self.settings.seeds)]

    @property
    def rate(self) -> float:
        """The learning rate of the model."""
        if not isinstance(self.settings.rate, str):
            return float(self.settings.rate)
        loaded = self.setup.loaded
        name = loaded.repository or loaded.name
        return learning_rate(self.settings.rate, name, self.setup.anatomy.d_model)

    @property
    def sweeps(self) -> bool:
        """Whether heads are trained at several layers, beside linear probes."""
        return self.settings.sweep == "default" and self.settings.kind != "native"

    @property
    def read_layer(self) -> int:
        """The layer whose linear probe strategies are held against: the one that heads read.

        Mixtures read it among others; queries, which go through the whole model, read the last.
        """
        last, settings = self.setup.anatomy.n_layers, self.settings
        if settings.kind == "query":
            return last
        return last - 1 if settings.read is None else settings.read

    @property
    def swept(self) -> tuple[int, ...]:
        """Layers of the sweep: some from the first to the last, and the one that heads read."""
        last = self.setup.anatomy.n_layers
        steps = min(last, SPACED_LAYERS - 1)
        spaced = {round(step * last / steps) for step in range(steps + 1)}
        return tuple(sorted({*spaced, self.read_layer}))

    def recipe(self, name: str) -> Recipe:
        """Return a recipe of `recipes.RECIPES` with the epochs, rate and seed of this study."""
        fields = asdict(RECIPES[name])
        if self.settings.kind == "query" and name != BASELINE:
            fields["head_rate_factor"] *= query_rate_factor(self.setup.anatomy.d_model)
        fields |= {
            "epochs": self.settings.epochs,
            "batch_size": self.settings.step_blocks,
            "learning_rate": self.rate,
            "rates": RATES.get(str(self.settings.rate), GIVEN),
            "seed": self.seed,
        }
        return Recipe(**fields)

    def streams(self, layers: tuple[int, ...]) -> Streams:
        """Return the residual streams of the model as it came."""
        return Streams(self.setup, layers, SITE_OF_MODEL)

    def weights(self, part: str, strategy: str) -> Path:
        """Return where the weights of a strategy are: its `heads` or its `adapter`."""
        name = f"{part}-{strategy}{self._suffix}.safetensors"
        return self.stages.path(name) if self.finished is None else self.finished / name

    def keep_table(self, name: str, table: pd.DataFrame) -> None:
        """Write the scores of a stage, whose notes are written behind them."""
        path = self.stages.path(f"{name}{self._suffix}.parquet")
        files.write_checked(path, table.to_parquet)

    def table(self, name: str) -> pd.DataFrame:
        """Return the scores of a finished stage."""
        return pd.read_parquet(self.stages.path(f"{name}{self._suffix}.parquet"))

    @property
    def _suffix(self) -> str:
        return "" if self.again is None else f"-seed-{self.again}"

    def _text(self, part: Split) -> TokenBatch:
        return TokenBatch(self.setup.blocks[part].token_ids, self.targets[part])

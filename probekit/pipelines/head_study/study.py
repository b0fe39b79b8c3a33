"""A study of heads in progress: what it works on, and the stages that are done.

A finished stage is kept in the run folder under a fingerprint of all that could change it, so
that a study that was stopped goes on behind it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from probekit import files, provenance
from probekit.activations.backbone import Backbone
from probekit.data.documents import Split
from probekit.data.targets import Targets, draw_positions, text_targets
from probekit.heads.training.recipes import RECIPES, Recipe, learning_rate, query_rate_factor
from probekit.heads.training.train import Data, TokenBatch
from probekit.pipelines.head_study.settings import BASELINE, HeadSettings
from probekit.probes import ngram
from probekit.progress import Journal
from probekit.runs.setup import Setup
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.shapes import Mask

MOST_LAYERS = 7
SWEPT_OFFSET = 2


@dataclass(frozen=True)
class Study:
    """A study of heads.

    Attributes:
        setup: Model and text.
        settings: Its settings.
        journal: Where stages are noted.
        stages: Folder of finished stages.
        finished: Folder of the finished run whose weights are read; None in one that goes on.
    """

    setup: Setup
    settings: HeadSettings
    journal: Journal
    stages: Path
    finished: Path | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all that could change a stage."""
        return provenance.digest(
            {
                "settings": asdict(self.settings),
                "model": self.setup.fingerprint,
                "text": [row["sha256"] for row in self.setup.text],
                "versions": dict(provenance.versions()),
            }
        )

    @cached_property
    def targets(self) -> Mapping[Split, Targets]:
        """The tokens of the text, by split."""
        blocks = self.setup.blocks
        return {part: text_targets(blocks[part], self.settings.offsets) for part in blocks}

    @cached_property
    def positions(self) -> dict[str, Mask]:
        """Test positions: all, and those at which the model is marginalized."""
        test, settings = self.setup.blocks["test"], self.settings
        drawn = draw_positions(
            test,
            self.setup.domains,
            settings.offsets,
            settings.marginal_positions,
            settings.seed,
        )
        return {"all": test.valid(1), "marginal": drawn}

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
    def swept(self) -> tuple[int, ...]:
        """Layers of the sweep: all, or so many of them, the first and the last among them."""
        last = self.setup.anatomy.n_layers
        steps = min(last, MOST_LAYERS - 1)
        return tuple(sorted({round(step * last / steps) for step in range(steps + 1)}))

    def recipe(self, name: str) -> Recipe:
        """Return a recipe of `probekit.heads.training.recipes` as it is asked for here."""
        own = asdict(RECIPES[name])
        if self.settings.kind == "query" and name != BASELINE:
            own["head_rate_factor"] *= query_rate_factor(self.setup.anatomy.d_model)
        own |= {
            "epochs": self.settings.epochs,
            "batch_size": self.settings.step_blocks,
            "learning_rate": self.rate,
            "seed": self.settings.seed,
        }
        return Recipe(**own)

    def streams(self, layers: tuple[int, ...]) -> Streams:
        """Return the residual streams of the model as it came."""
        return Streams(self.setup, layers, SITE_OF_MODEL)

    def path(self, name: str) -> Path:
        """Return where a stage is kept."""
        return self.stages / f"{self.fingerprint[:16]}-{name}"

    def weights(self, part: str, strategy: str) -> Path:
        """Return where the weights of a strategy are: its `heads` or its `adapter`."""
        name = f"{part}-{strategy}.safetensors"
        return self.path(name) if self.finished is None else self.finished / name

    def kept(self, name: str, measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return the notes of a finished stage, finishing it first if need be."""
        path = self.path(f"{name}.json")
        if not path.exists():
            with self.journal.stage(name):
                found = {"seconds": None} | dict(measure())
            found["seconds"] = self.journal.seconds[name]
            files.write_text(path, files.as_json(found))
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.journal.seconds.setdefault(name, known["seconds"])
        return known

    def keep_table(self, name: str, table: pd.DataFrame) -> None:
        """Write the scores of a stage."""
        files.write(self.path(f"{name}.parquet"), table.to_parquet)

    def table(self, name: str) -> pd.DataFrame:
        """Return the scores of a finished stage."""
        return pd.read_parquet(self.path(f"{name}.parquet"))

    def _text(self, part: Split) -> TokenBatch:
        return TokenBatch(self.setup.blocks[part].token_ids, self.targets[part])

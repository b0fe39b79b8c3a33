"""Settings of a measured draft: those of any run, what drafts, and what is continued.

A field's name, hyphenated, is its flag on the command line; of `drafters` it is `--drafter`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from probekit.errors import SettingsError
from probekit.settings import RunSettings

DrafterName = Literal["linear", "lens", "skip-bigram", "mean-embedding", "heads", "prompt-lookup"]
DEFAULT: tuple[DrafterName, ...] = (
    "linear", "skip-bigram", "mean-embedding", "heads", "prompt-lookup",
)  # fmt: skip
# Paths of a tree at most: a step runs the model on all of their tokens at once.
MOST_PATHS = 1024


@dataclass(frozen=True)
class DraftSettings(RunSettings):
    """Settings of `probekit draft`: those of any run, what drafts, and what is continued.

    Attributes:
        run: Folder of a finished analysis, whose model, text and probes are taken.
        heads: Folder of a finished study of heads of the same model; heads that leave the model
            as it is draft too.
        layers: Layers of which linear probes are fitted where there is no run, and which the
            lens reads; by default those at half, three quarters and all of the depth. The best
            of them is chosen for each offset, on validation.
        drafters: What drafts: `linear` probes; the logit `lens`; `skip-bigram`, counted,
            behind the newest token; `mean-embedding`, queries that learned nothing; `heads`,
            those of --heads and those that come with the model; `prompt-lookup`, which copies.
        tree: Candidates by offset from 2 on, of which trees are tried too; 1 for chains alone.
        prompts: Prompts of each text, from its test documents.
        prompt_tokens: Tokens of a prompt.
        new_tokens: Tokens that continue each prompt, at most.
        temperature: 0 for greedy decoding; above it, texts are sampled.
        repeats: How often everything is timed.
    """

    run: str | None = None
    heads: str | None = None
    layers: tuple[int, ...] = ()
    drafters: tuple[DrafterName, ...] = field(default=DEFAULT, metadata={"flag": "drafter"})
    tree: tuple[int, ...] = (3, 2, 1)
    prompts: int = 8
    prompt_tokens: int = 64
    new_tokens: int = 32
    temperature: float = 0.0
    repeats: int = 2

    command: ClassVar[str] = "draft"
    least: ClassVar[Mapping[str, int]] = {
        **RunSettings.least,
        "offsets": 2,
        "prompts": 1,
        "prompt_tokens": 1,
        "new_tokens": 2,
        "repeats": 1,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.drafters:
            raise SettingsError(f"--drafter must be at least one of {', '.join(DEFAULT)}")
        if not self.tree or min(self.tree) < 1 or math.prod(self.tree) > MOST_PATHS:
            raise SettingsError(
                f"--tree must be numbers of 1 or more, whose product is at most {MOST_PATHS}, got "
                f"{','.join(map(str, self.tree))}"
            )
        if self.temperature < 0:
            raise SettingsError(f"--temperature must be 0 or more, got {self.temperature}")

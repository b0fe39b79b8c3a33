"""The readouts that `--readout` asks for, beside the probes and the logit lens."""

from collections.abc import Iterator, Sequence

from probekit.data.targets import Targets
from probekit.errors import ModelError
from probekit.heads.mask_tokens import MaskTokens
from probekit.heads.queries import mean_queries
from probekit.heads.transplants import Transplants, prompt_ids
from probekit.models.loading import longest, require_rows
from probekit.probes import jacobian_lens
from probekit.readout import JACOBIAN_LENS, MASK_TOKEN, TRANSPLANT, Readout
from probekit.runs.ceiling import scored_positions
from probekit.runs.setup import Setup
from probekit.settings import Settings

# What a position takes in a backward pass to the first block, in tokens of a forward pass.
BACKWARD_TOKENS = 1.1


def require(settings: Settings, setup: Setup) -> None:
    """Raise, before anything is fitted, if the model cannot give what was asked for.

    Raises:
        ModelError: If so; the message names the readout.
    """
    if MASK_TOKEN in settings.readout:
        mean_queries(setup.loaded.model, setup.anatomy, settings.offsets)
    if TRANSPLANT in settings.readout:
        prompt = prompt_ids(setup.loaded.tokenizer)
        require_rows(setup.loaded, prompt)
        most, needed = longest(setup.loaded.model), len(prompt) + settings.offsets - 1
        if most is not None and needed > most:
            raise ModelError(
                f"--readout transplant runs a prompt of {len(prompt)} tokens and those up to the "
                f"offset, {needed} for --offsets {settings.offsets}; {setup.loaded.name} takes "
                f"{most}. Ask for fewer offsets, or leave it out"
            )


def blind(settings: Settings, setup: Setup, layers: Sequence[int]) -> Iterator[Readout]:
    """Yield the blind ones that were asked for, each fitted where there is something to fit.

    Args:
        settings: What was asked.
        setup: Model and text.
        layers: Layers to read.
    """
    if JACOBIAN_LENS in settings.readout:
        yield jacobian_lens.fit(setup.anatomy, setup.blocks["train"], layers, settings.seed)
    if MASK_TOKEN in settings.readout:
        queries = mean_queries(setup.loaded.model, setup.anatomy, settings.offsets)
        yield MaskTokens(queries, layers)


def transplants(setup: Setup, targets: Targets, layers: Sequence[int], alone: bool) -> Transplants:
    """Return transplants on test text.

    Args:
        setup: Model and text.
        targets: What is predicted, and fed from t+2 on: the text, or its continuation by the model.
        layers: Layers to transplant at.
        alone: Whether what they are compared with is run too.
    """
    prompt = prompt_ids(setup.loaded.tokenizer)
    return Transplants(setup.anatomy, prompt, targets.ids, layers, alone)


def seconds(settings: Settings, setup: Setup, token: float) -> dict[str, float]:
    """Return the seconds that fitting and running them is expected to take, by readout.

    Args:
        settings: What was asked.
        setup: Model and text.
        token: Seconds of a token in a forward pass.
    """
    found = {}
    if JACOBIAN_LENS in settings.readout:
        prompt = min(jacobian_lens.PROMPT_TOKENS, settings.block)
        rows = setup.anatomy.d_model * jacobian_lens.PROMPTS_A_ROW
        passed = 1 - min(setup.layers) / setup.anatomy.n_layers
        found["Jacobian lens"] = rows * prompt * token * BACKWARD_TOKENS * passed
    if MASK_TOKEN in settings.readout:
        scored = sum(setup.blocks[part].token_ids.numel() for part in ("validation", "test"))
        found["mask tokens"] = scored * settings.offsets * token
    if TRANSPLANT in settings.readout:
        n_positions = int(scored_positions(setup, settings)["marginal"].sum())
        fed = len(prompt_ids(setup.loaded.tokenizer)) + settings.offsets - 1
        found["transplants"] = n_positions * (len(setup.layers) + 2) * fed * token
    return found

"""The readouts that `--readout` asks for, beside the probes and the logit lens."""

from collections.abc import Iterator, Sequence

from probekit.heads.mask_tokens import MaskTokens
from probekit.heads.queries import mean_queries
from probekit.probes import jacobian_lens
from probekit.readout import JACOBIAN_LENS, MASK_TOKEN, Readout
from probekit.runs.setup import Setup
from probekit.settings import Settings

# What a position takes in a backward pass to the first block, in tokens of a forward pass.
BACKWARD_TOKENS = 1.1


def further(settings: Settings, setup: Setup, layers: Sequence[int]) -> Iterator[Readout]:
    """Yield what was asked for, each fitted where there is something to fit.

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


def seconds(settings: Settings, setup: Setup, token: float) -> dict[str, float]:
    """Return the seconds that fitting them is expected to take, by readout.

    Args:
        settings: What was asked.
        setup: Model and text.
        token: Seconds of a token in a forward pass.
    """
    if JACOBIAN_LENS not in settings.readout:
        return {}
    prompt = min(jacobian_lens.PROMPT_TOKENS, settings.block)
    rows = setup.anatomy.d_model * jacobian_lens.PROMPTS_A_ROW
    passed = 1 - min(setup.layers) / setup.anatomy.n_layers
    return {"Jacobian lens": rows * prompt * token * BACKWARD_TOKENS * passed}

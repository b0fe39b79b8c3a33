"""The parts of a causal language model: its blocks, its final norm and its unembedding.

The final norm is applied in `Anatomy.hidden` alone: captured residual streams are not normed, the
last layer's neither.

No model is known here by its name. `find_anatomy` runs the model once on a few tokens and records
which modules fire: the blocks are the list of modules that fire one after another, as many as the
configuration has layers; what follows them is found in `output_path`. Each finding is verified by
computing the model's own numbers from it, so that a model that is built otherwise is an error and
never a wrong result.
"""

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.errors import ModelError
from probekit.models.module_calls import Call, record_module_calls
from probekit.models.output_path import (
    WAY_OUT,
    capped,
    find_final_path,
    find_scale_and_softcap,
)
from probekit.models.quantization import noise


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of a causal language model that a probe needs.

    Attributes:
        decoder: The module that runs the model without its logits.
        blocks: The transformer (or state-space) blocks, in order.
        final: The modules between the last block and the unembedding, in order.
        output_embeddings: A module with a weight of shape (vocab, hidden).
        scale: Factor between what they give and the logits; 1.0 in most models.
        softcap: Bound c of logits c·tanh(x/c), or None.
    """

    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    final: tuple[nn.Module, ...]
    output_embeddings: nn.Module
    d_model: int
    scale: float = 1.0
    softcap: float | None = None

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def unembedding(self) -> Float[Tensor, "vocab hidden"]:
        """The unembedding, shape (vocab, hidden): a view of the model's weight, detached."""
        weight: Tensor = self.output_embeddings.weight  # type: ignore[assignment]
        return weight.detach()

    @property
    def bias(self) -> Float[Tensor, " vocab"] | None:
        """The bias of the unembedding, shape (vocab,), detached; None where there is none."""
        bias: Tensor | None = getattr(self.output_embeddings, "bias", None)
        return None if bias is None else bias.detach()

    @property
    def vocab_size(self) -> int:
        """Rows of the unembedding, which may be more than the tokenizer has tokens."""
        return self.unembedding.shape[0]

    @property
    def d_hidden(self) -> int:
        """Width of what enters the unembedding."""
        return self.unembedding.shape[1]

    def hidden(self, resid: Float[Tensor, "*any model"]) -> Float[Tensor, "*any hidden"]:
        """Return what would enter the unembedding if the residual stream were the last one.

        Args:
            resid: Residual stream of any layer, shape (..., model), in the model's dtype.

        Returns:
            The final norm and projection applied to it, shape (..., hidden).
        """
        for module in self.final:
            resid = module(resid)
        return resid

    def logits(self, hidden: Float[Tensor, "*any hidden"]) -> Float[Tensor, "*any vocab"]:
        """Return the model's logits: unembedding and bias, then scale, then soft-cap.

        Args:
            hidden: What enters the unembedding, shape (..., hidden), in the model's dtype.

        Returns:
            Logits, shape (..., vocab), in the dtype of `hidden`.
        """
        return self.scaled(nn.functional.linear(hidden, self.unembedding, self.bias))

    def scaled(self, logits: Float[Tensor, "*any vocab"]) -> Float[Tensor, "*any vocab"]:
        """Return the model's logits from what its output embeddings give: scale, then soft-cap."""
        return capped(logits, self.scale, self.softcap)

    def decode(self, resid: Float[Tensor, "*any model"]) -> Float[Tensor, "*any vocab"]:
        """Return the logits of a residual stream, as the model decodes its last one.

        At the last layer these are the model's logits; at an earlier one, the logit lens.
        """
        return self.logits(self.hidden(resid))


def find_anatomy(model: PreTrainedModel) -> Anatomy:
    """Find the anatomy of a causal language model by running it once on a few tokens.

    Args:
        model: Any causal language model of transformers, in eval mode.

    Returns:
        Its parts, each verified by recomputing the model's own logits.

    Raises:
        ModelError: If the model is not causal, is in train mode, or is built in a way that
            this module does not understand; the message names the step.
    """
    output_embeddings = _output_embeddings(model)
    calls, logits = record_module_calls(model)
    _require_causal(model, logits)
    unembedding_call = _unembedding_call(model, output_embeddings, calls)
    block_calls = _blocks(model, calls)
    final = find_final_path(model, calls, block_calls[-1], unembedding_call)
    assert block_calls[-1].left is not None
    scale, softcap = find_scale_and_softcap(model, unembedding_call, logits)
    return Anatomy(
        decoder=_decoder(model, calls, block_calls, unembedding_call),
        blocks=tuple(call.module for call in block_calls),
        final=final,
        output_embeddings=output_embeddings,
        d_model=block_calls[-1].left.shape[-1],
        scale=scale,
        softcap=softcap,
    )


def _output_embeddings(model: PreTrainedModel) -> nn.Module:
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise ModelError(
            f"{name} is an encoder-decoder model; probekit reads causal (decoder-only) "
            "language models. Choose one of those, such as `tiny`"
        )
    if model.training:
        raise ModelError(f"{name} is in train mode, where dropout is on; call model.eval() first")
    embeddings: nn.Module | None = model.get_output_embeddings()
    weight = getattr(embeddings, "weight", None)
    if embeddings is not None and (not isinstance(weight, Tensor) or weight.ndim != 2):
        raise ModelError(
            f"the output embeddings of {name} are a {type(embeddings).__name__}, which has no "
            "matrix of weights (a quantized one has none). Load the model without quantizing them"
        )
    if embeddings is None:
        raise ModelError(
            f"{name} has no output embeddings, so it gives no next-token logits: it is an "
            "encoder or lacks its language-model head. Load it with AutoModelForCausalLM, or "
            "choose a causal language model"
        )
    return embeddings


def _require_causal(model: PreTrainedModel, logits: Tensor) -> None:
    earlier = logits[:, :-1]
    apart, largest = (earlier[1] - earlier[0]).abs().max(), earlier.abs().max()
    if not apart <= noise(model) * largest:
        raise ModelError(
            f"{type(model).__name__} is not causal: a changed last token changes earlier logits, "
            "as in an encoder. Choose a causal (decoder-only) language model"
        )


def _unembedding_call(model: PreTrainedModel, embeddings: nn.Module, calls: list[Call]) -> Call:
    fired = [call for call in calls if call.module is embeddings]
    if len(fired) != 1 or fired[0].entered is None or fired[0].left is None:
        raise ModelError(
            f"unembedding of {type(model).__name__}: {type(embeddings).__name__} must fire once on "
            f"a tensor, it fired {len(fired)} times. {WAY_OUT}"
        )
    return fired[0]


def _blocks(model: PreTrainedModel, calls: list[Call]) -> list[Call]:
    """Return the calls of the blocks: the outermost list that fires once each, in order."""
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if n_layers == 0:
        raise ModelError(f"{type(model).__name__} has 0 blocks, so there are no layers to read")
    by_module: dict[nn.Module, list[Call]] = {}
    for call in calls:
        by_module.setdefault(call.module, []).append(call)
    lists = []
    for modules in model.modules():
        if isinstance(modules, nn.ModuleList) and len(modules) == n_layers:
            fired = [by_module.get(module, []) for module in modules]
            if all(len(module_calls) == 1 for module_calls in fired):
                lists.append([module_calls[0] for module_calls in fired])
    lists = [blocks for blocks in lists if _in_order(blocks) and not _inside(blocks, lists)]
    if len(lists) != 1:
        raise ModelError(
            f"blocks of {type(model).__name__}: expected one list of {n_layers} modules that fire "
            f"once each and in order, found {len(lists)}. {WAY_OUT}"
        )
    return lists[0]


def _in_order(calls: list[Call]) -> bool:
    return all(before.end < after.start for before, after in pairwise(calls))


def _inside(calls: list[Call], lists: list[list[Call]]) -> bool:
    return any(calls[0].within(outer) for other in lists for outer in other)


def _decoder(
    model: PreTrainedModel, calls: list[Call], blocks: list[Call], unembedding: Call
) -> nn.Module:
    """Return the outermost module that runs all blocks and ends before the unembedding."""
    for call in calls:  # in order of start, so an outer module comes before an inner one
        if call.start < blocks[0].start and blocks[-1].end < call.end < unembedding.start:
            return call.module
    raise ModelError(
        f"decoder of {type(model).__name__}: no module runs all blocks without the unembedding, "
        f"so the model cannot be run without its logits. {WAY_OUT}"
    )

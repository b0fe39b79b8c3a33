"""Multi-token layers that a model brings along, as transformers runs them.

Layer i reads at position t what layer i - 1 gave there (layer 1: the model's last hidden
state) and the token at t + i, and predicts the token at t + i + 1. These heads are fed the
true tokens between, so they are not blind: never compare them with blind heads alone.

transformers has them (`MtpModel`) for models whose configuration knows `num_mtp_layers`, as
those of DeepSeek-V3, GLM 4 MoE, Mellum and Nemotron-H do. Of Qwen3-Next, Qwen3.5 and MiMo it
leaves these weights out when it loads them.

Source: DeepSeek-AI (2024), "DeepSeek-V3 Technical Report", section 2.2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import MtpModel

from probekit.errors import DataError, ModelError
from probekit.models.anatomy import Anatomy
from probekit.readout import Cell, Seen
from probekit.shapes import Logits, Mask, TokenIds


@dataclass(frozen=True, eq=False)
class NativeHeads:
    """A model's own multi-token layers as a readout, token-fed; it runs the model itself.

    Attributes:
        model: The model.
        anatomy: Its anatomy.
        mtp: The multi-token layers, in eval mode.
        name: Name of the readout.
        layers: None are captured for it.
    """

    model: PreTrainedModel
    anatomy: Anatomy
    mtp: MtpModel
    name: str = "head:native"
    layers: frozenset[int] = frozenset()

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets, ascending: 2 and on, one a layer."""
        return tuple(range(2, len(self.mtp.layers) + 2))

    @torch.no_grad()
    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits in float32, offset by offset.

        Raises:
            DataError: If `valid` asks for a position whose tokens between end with the block.
        """
        furthest = max((offset for offset in self.offsets if offset in valid), default=0)
        if not furthest:
            return
        for offset, hidden in zip(
            range(2, furthest + 1), self._hidden(seen.token_ids), strict=False
        ):
            if offset in valid:
                mask = valid[offset].to(hidden.device)
                _require_fed(mask, hidden.shape[1], offset)
                rows = hidden[mask[:, : hidden.shape[1]]]
                yield Cell(self.name, offset, blind=False), self.anatomy.logits(rows).float()

    def _hidden(self, token_ids: TokenIds) -> Iterator[Float[Tensor, "batch fed hidden"]]:
        """Yield what each layer hands to the unembedding, where it has a token to be fed."""
        token_ids = token_ids.to(self.model.device)
        # By this name and place transformers' own generation takes it.
        outputs = self.model.get_decoder()(
            input_ids=token_ids, output_hidden_states=-1, use_cache=False
        )
        hidden: Tensor = outputs.hidden_states[-1]
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)[None]
        for layer in range(len(self.mtp.layers)):
            ahead = layer + 1
            if ahead >= token_ids.shape[1]:
                return
            hidden = self.mtp.forward_layer(
                layer, hidden[:, :-1], positions[:, ahead:], None,
                input_ids=token_ids[:, ahead:],
            )  # fmt: skip
            yield hidden


def native(model: PreTrainedModel, anatomy: Anatomy) -> NativeHeads:
    """Load the multi-token layers of a model from the checkpoint that it came from.

    Args:
        model: A model that `from_pretrained` loaded.
        anatomy: Its anatomy.

    Raises:
        ModelError: If transformers knows of no such layers in it, or they cannot be loaded.
    """
    name = type(model).__name__
    count = getattr(model.config.get_text_config(), "num_mtp_layers", None)
    if not count:
        raise ModelError(
            f"{name} has no multi-token layers that transformers knows of (its configuration has "
            f"num_mtp_layers {count}); train heads of your own instead"
        )
    if not model.config.name_or_path:
        raise ModelError(
            f"the {count} multi-token layers of {name} are in its checkpoint, and it was made "
            "without one; load it with from_pretrained"
        )
    try:
        mtp = MtpModel.from_pretrained(model, device_map={"": model.device})
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"the {count} multi-token layers of {name} could not be loaded from "
            f"{model.config.name_or_path}: {error}. Load the model from a checkpoint "
            "that holds them"
        ) from error
    # eval alone: embeddings and unembedding in it are the model's, and not ours to freeze.
    return NativeHeads(model, anatomy, mtp.train(False))


def _require_fed(mask: Mask, fed: int, offset: int) -> None:
    if bool(mask[:, fed:].any()):
        raise DataError(
            f"at offset {offset} positions 0..{fed - 1} have the tokens between, got position "
            f"{int(mask.any(dim=0).nonzero().max())}"
        )

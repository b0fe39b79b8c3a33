"""Transplants: what the model says behind a fixed prompt that ends in another text's residual.

    prompt, x_{t+1} … x_{t+k-1}  →  p(x_{t+k})

At one layer the residual stream of the prompt's last token gives way to that of position t, and
the model runs on from there. From t+2 on the tokens between stand behind the prompt, so that a
transplant is token-fed: what it says may come from them alone. So the prompt is also run with
nothing transplanted, and with the token at t as its last one: what a transplant tells beyond that
is what the residual stream holds of the context.

Positions are the prompt's, not those of the text: the prompt begins as a block does.

Source: Pal, Sun, Yuan, Wallace and Bau (2023), "Future Lens: Anticipating Subsequent Tokens from
a Single Hidden State", arXiv 2311.04897, the causal intervention with a fixed prompt. The prompt is
the first of the four in its code (KoyenaPal/future-lens, `causal_methods/module.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from probekit.activations.hooks import Arguments, partial_forward
from probekit.errors import ModelError
from probekit.models.anatomy import Anatomy
from probekit.models.module_calls import residual_in, residual_out
from probekit.readout import PROMPT_ALONE, TOKEN_ALONE, TRANSPLANT, Cell, Seen
from probekit.shapes import Logits, Mask, Resid, TokenIds

PROMPT = 'Hello! Could you please tell me more about "'
TOKENS_AT_ONCE = 4_096


def prompt_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the prompt as a block would hold it: behind the BOS token, where there is one.

    Raises:
        ModelError: If that is no token at all.
    """
    ids: list[int] = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    ids = ids if bos is None else [bos, *ids]
    if not ids:
        raise ModelError(
            f"--readout transplant needs the prompt {PROMPT!r}, and the tokenizer makes no token "
            "of it. Leave it out"
        )
    return ids


@dataclass(frozen=True, eq=False)
class Transplants:
    """Transplants as a readout called `transplant`, and what they are compared with.

    Where nothing is transplanted it is `transplant-none`, and `transplant-token` where the prompt
    ends in the token at t.

    Attributes:
        anatomy: The model's anatomy.
        prompt: Token ids of the prompt, at least one.
        between: What is fed: by offset, the token there of each position of all blocks, shape
            (block, pos); from 1 to one below the largest offset.
        read: Layers to transplant at.
        alone: Whether what they are compared with is run too; it comes first.
    """

    anatomy: Anatomy
    prompt: Sequence[int]
    between: Mapping[int, TokenIds]
    read: Sequence[int]
    alone: bool = True

    @property
    def layers(self) -> frozenset[int]:
        """Layers to transplant at."""
        return frozenset(self.read)

    @torch.no_grad()
    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits in float32, layer by layer and offset by offset."""
        wanted = torch.stack(list(valid.values())).any(dim=0)
        if not wanted.any():
            return
        for name, layer, last in self._run(seen, wanted, max(valid)):
            for offset, mask in valid.items():
                rows = last[mask[wanted], offset - 1]
                cell = Cell(name, offset, layer, blind=offset == 1)
                yield cell, self.anatomy.decode(rows).float()

    def _run(
        self, seen: Seen, wanted: Mask, horizon: int
    ) -> Iterator[tuple[str, int | None, Float[Tensor, "n offset model"]]]:
        """Yield name, layer and last residual streams of all that is run."""
        tokens = self._tokens(seen, wanted, horizon)
        if self.alone:
            yield PROMPT_ALONE, None, self._last(tokens)
            ends_in_token = tokens.clone()
            ends_in_token[:, len(self.prompt) - 1] = seen.token_ids[wanted]
            yield TOKEN_ALONE, None, self._last(ends_in_token)
        for layer in self.read:
            yield TRANSPLANT, layer, self._last(tokens, (layer, seen.resid[layer][wanted]))

    def _tokens(self, seen: Seen, wanted: Mask, horizon: int) -> Int[Tensor, "n fed"]:
        """Return prompt and tokens between of each position, shape (n, fed).

        Where a text ends before the horizon, what is fed means nothing, and is not read.
        """
        device, at = seen.token_ids.device, wanted.cpu()
        prompt = torch.tensor(self.prompt).expand(int(at.sum()), -1)
        fed = [self.between[k][seen.blocks][at][:, None] for k in range(1, horizon)]
        return torch.cat([prompt, *fed], dim=1).to(device)

    def _last(
        self, tokens: Int[Tensor, "n fed"], put: tuple[int, Float[Tensor, "n model"]] | None = None
    ) -> Float[Tensor, "n offset model"]:
        """Return the last residual stream at the prompt's last token and at those behind it."""
        last, place = self.anatomy.n_layers, len(self.prompt) - 1
        rows, parts = max(1, TOKENS_AT_ONCE // tokens.shape[1]), []
        for first in range(0, len(tokens), rows):
            few = slice(first, first + rows)
            with _transplanted(self.anatomy, put[0], place, put[1][few]) if put else nullcontext():
                found = partial_forward(self.anatomy, tokens[few], [last]).resid[last]
            parts.append(found[:, place:])
        return torch.cat(parts)


@contextmanager
def _transplanted(
    anatomy: Anatomy, layer: int, place: int, resid: Float[Tensor, "batch model"]
) -> Iterator[None]:
    """Put other residual streams in the place of one position's, at a layer."""

    def changed(stream: Resid) -> Resid:
        stream = stream.clone()
        stream[:, place] = resid.to(stream)
        return stream

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        stream = changed(residual_in(args, kwargs))
        return ((stream, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": stream})

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        stream = changed(residual_out(output))
        return stream if isinstance(output, Tensor) else (stream, *output[1:])

    handle = (
        anatomy.blocks[layer - 1].register_forward_hook(after)
        if layer
        else anatomy.blocks[0].register_forward_pre_hook(before, with_kwargs=True)
    )
    try:
        yield
    finally:
        handle.remove()

"""Several candidates a position, and queries behind them, verified in one packed forward pass.

A pass runs slots: the tokens that are certain, a tree of candidates behind the newest, and, where
the drafter asks the model itself, its queries behind each of them. A slot sees the text before
it, its ancestors and itself, inside the model's window. The walk from the newest token follows
the model's own choice as long as that is a candidate; keys and values of the slots on the way are
gathered in the cache. Where the model samples, it draws its token first: lossless too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, LogitsProcessorList, PreTrainedModel

from probekit.drafting.chain import Step
from probekit.drafting.drafters import Drafter
from probekit.drafting.reading import Caching, Reading, Watch
from probekit.drafting.slots import Slots
from probekit.errors import ModelError
from probekit.marginalization.branch_routes import (
    additive,
    cache_arguments,
    objection,
    parameters,
    windows,
)
from probekit.shapes import TokenIds


def require_packable(model: PreTrainedModel) -> None:
    """Raise where candidates of a position cannot be kept apart in one pass.

    Raises:
        ModelError: If so.
    """
    why_not = objection(model, "packed")
    if why_not is not None:
        raise ModelError(
            f"{type(model).__name__} can verify one candidate a position only: {why_not}. Draft "
            "chains, and with other drafters than queries"
        )


def decoding(
    drafter: Drafter, widths: Sequence[int], watch: Watch, steps: list[Step]
) -> Callable[..., Tensor]:
    """Return generation by trees of candidates, as `generate` takes it for `custom_generate`.

    Args:
        drafter: The drafter.
        widths: Candidates by offset from 2 on; no more offsets than the drafter has.
        watch: Hooks on the model that keep the layers that the drafter reads.
        steps: Where what was accepted is noted, pass by pass.
    """

    def decode(
        model: PreTrainedModel,
        input_ids: TokenIds,
        logits_processor: LogitsProcessorList,
        stopping_criteria: Any,
        generation_config: Any,
        **_: Any,
    ) -> Tensor:
        choice = Choice(logits_processor, generation_config.do_sample)
        ends = getattr(generation_config, "_eos_token_tensor", None)
        walk = _Walk(model, drafter, watch, choice)
        text, certain, drafted = input_ids, input_ids[0], list[list[int]]()
        if drafter.queries is not None and len(certain) > 1:
            walk.run(text, Slots.of(certain[:-1], (), 0))
            walk.keep(torch.arange(len(certain) - 1))
            certain = certain[-1:]
        while True:
            new, kept = walk.step(text, certain, drafted)
            steps.append(Step(text.shape[1] - 1, tuple(map(tuple, drafted)), len(new) - 1))
            text = torch.cat([text, new[None]], dim=1)
            if bool(torch.as_tensor(stopping_criteria(text, None)).all()):
                return text
            room = generation_config.max_length - text.shape[1] - 1
            logits = walk.drafts(text[0], kept)
            if ends is not None:
                logits[:, ends] = float("-inf")
            certain = new[-1:]
            drafted = [
                row.topk(min(width, len(row))).indices.tolist()
                for row, width in zip(logits, widths[:room], strict=False)
            ]

    return decode


@dataclass(frozen=True)
class Choice:
    """How the model's next token comes from its logits."""

    processors: LogitsProcessorList
    samples: bool

    def of(self, text: Any, logits: Tensor) -> Tensor:
        """Return the token behind a text, shape (1,)."""
        row = logits[None].float()
        if len(self.processors):
            row = self.processors(text, row)
        return torch.multinomial(row.softmax(-1), 1)[0] if self.samples else row.argmax(-1)


class _Walk:
    """The model's cache, and the passes that extend it."""

    def __init__(
        self, model: PreTrainedModel, drafter: Drafter, watch: Watch, choice: Choice
    ) -> None:
        self.model = model
        self.drafter = drafter
        self.watch = watch
        self.choice = choice
        # Without config: a config would drop what is outside the window, or could not be gathered.
        self.cache = DynamicCache()
        self.asked = range(0)  # rows of the queries behind the last row kept
        self.first = True

    def step(
        self, text: TokenIds, certain: Tensor, drafted: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Run certain and drafted tokens; return what the text gains, and the rows kept."""
        queries = self.drafter.queries
        slots = Slots.of(certain, drafted, 0 if queries is None else len(queries))
        logits = self.run(text, slots)
        at, new, path = slots.n_certain - 1, list[Tensor](), list[int]()
        while True:
            new.append(self.choice.of(text, logits[at - slots.n_certain + 1]))
            text = torch.cat([text, new[-1][None]], dim=1)
            behind = slots.children(at)
            if int(new[-1]) not in behind:
                break
            at = behind[int(new[-1])]
            path.append(at)
        kept = torch.tensor([*range(slots.n_certain), *path], device=text.device)
        self.keep(kept)
        self.asked = slots.queries_behind(at)
        return torch.cat(new), kept

    def run(self, text: TokenIds, slots: Slots) -> Tensor:
        """Run slots; return logits of the last certain token and the drafted, (rows, vocab)."""
        model: Any = self.model
        n_cached = self.cache.get_seq_length()
        asked: dict[str, Any] = cache_arguments(model, self.cache)
        if self.drafter.queries is None or not slots.asked:
            asked["input_ids"] = slots.tokens[None]
        else:
            embed: Any = model.get_input_embeddings()
            behind = self.drafter.queries[list(slots.asked)]
            embedded = torch.cat([embed(slots.tokens[: slots.n_tokens]), behind])
            asked["inputs_embeds"] = embedded[None]
        if not slots.chain:
            masks = {
                kind: additive(slots.visible(n_cached, window).to(text.device), model.dtype)
                for kind, window in windows(model).items()
            }
            asked["attention_mask"] = masks if len(masks) > 1 else next(iter(masks.values()))
            depths = torch.tensor(slots.depths, device=text.device)
            asked["position_ids"] = (n_cached + depths)[None]
        rows = torch.arange(slots.n_certain - 1, slots.n_tokens, device=text.device)
        if "logits_to_keep" in parameters(model):
            kept: Tensor = model(**asked, logits_to_keep=rows).logits[0]
            return kept
        logits: Tensor = model(**asked).logits[0, rows]
        return logits

    def keep(self, kept: Tensor) -> None:
        """Keep the rows of the last pass that are in the text."""
        _gather(self.cache, self.watch.rows, kept)

    def drafts(self, token_ids: Tensor, kept: Tensor) -> Tensor:
        """Return the drafter's logits behind the newest token, shape (offsets, vocab)."""
        call = self.watch.call
        assert call is not None  # a pass has been run
        asked = torch.tensor(self.asked, dtype=torch.long, device=token_ids.device)
        caching = Caching(DynamicCache, _gather)
        reading = Reading(
            token_ids, self.watch.resid, call, kept, self.watch.rows, asked, self.first, caching
        )
        self.first = False
        return self.drafter.logits(reading)


def _gather(cache: Cache, rows: int, kept: Tensor) -> None:
    """Keep some of the last rows of each layer of a cache, and all before them."""
    layers: list[Any] = cache.layers
    for layer in layers:
        if layer.is_initialized:
            before = layer.keys.shape[-2] - rows
            index = torch.cat([torch.arange(before, device=kept.device), before + kept])
            layer.keys = layer.keys.index_select(-2, index)
            layer.values = layer.values.index_select(-2, index)

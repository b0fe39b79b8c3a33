"""One candidate a position, on transformers' assisted generation: a `CandidateGenerator` of ours.

The tokens that a verification pass ran and the text does not hold are cropped off the cache by
transformers, which also accepts: what equals the model's own choice, or, where it samples, by the
ratio of probabilities (Leviathan, Kalman and Matias, 2023, algorithm 1). Both are lossless.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Cache,
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers.generation.candidate_generator import CandidateGenerator

from probekit.drafting.drafters import Drafter
from probekit.drafting.reading import Caching, Reading, Watch
from probekit.shapes import TokenIds


@dataclass(frozen=True)
class Step:
    """One verification pass.

    Attributes:
        position: Position in the text of the newest token, the first that the pass ran.
        drafted: Candidates behind it, by offset from 2 on; one each in a chain.
        accepted: How many of these offsets were accepted.
    """

    position: int
    drafted: tuple[tuple[int, ...], ...]
    accepted: int


class Candidates(CandidateGenerator):
    """What a drafter proposes, as transformers asks for it.

    The end token is never proposed: it comes from the model, and ends the text there.
    """

    def __init__(
        self,
        drafter: Drafter,
        watch: Watch,
        model: PreTrainedModel,
        generation_config: GenerationConfig,
        logits_processor: LogitsProcessorList | None,
    ) -> None:
        self.drafter = drafter
        self.watch = watch
        self.most = generation_config.max_length
        self.samples = generation_config.do_sample
        self.ends = getattr(generation_config, "_eos_token_tensor", None)
        self.processors = logits_processor or LogitsProcessorList()
        self.caching = _cropped(model)
        self._run = 0  # tokens that passes have run, accepted or not
        self._first = True

    def get_candidates(self, input_ids: Any, **_: Any) -> tuple[Any, Any]:
        """Return the text with drafts behind it, (1, longer), and their logits if it samples."""
        length = input_ids.shape[1]
        # The model adds a token of its own behind what is accepted.
        room, call = self.most - length - 1, self.watch.call
        self._run, run = length, self._run
        if call is None or room < 1:
            return input_ids, None
        # The pass ran the last rows of what was proposed; position t is before the newest token.
        row = length - 2 - (run - self.watch.rows)
        nothing = torch.empty(0, dtype=torch.long, device=input_ids.device)
        kept = torch.arange(row + 1, device=input_ids.device)
        reading = Reading(
            input_ids[0], self.watch.resid, call, kept, self.watch.rows, nothing, self._first,
            self.caching,
        )  # fmt: skip
        self._first = False
        drafts = self._processed(input_ids, self.drafter.logits(reading)[:room])
        self._run += len(drafts[1])
        return torch.cat([input_ids, drafts[0]], dim=1), drafts[1][None] if self.samples else None

    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: Any) -> None:
        """Propose as many tokens as before, whatever was accepted."""

    def _processed(self, input_ids: Any, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Draw tokens as the model's own are drawn; return them and what they were drawn from."""
        if self.ends is not None:
            logits[:, self.ends] = float("-inf")
        tokens, text = [], input_ids
        for row in logits.unbind():
            for process in self.processors:
                row[:] = process(text, row[None])[0]
            token = torch.multinomial(row.softmax(0), 1) if self.samples else row.argmax()[None]
            tokens.append(token)
            text = torch.cat([text, token[None]], dim=1)
        return torch.cat(tokens)[None], logits


class Recorder(CandidateGenerator):
    """Another generator of candidates, and what became of each of its proposals.

    Attributes:
        within: The generator.
        steps: One a pass that candidates were proposed for.
    """

    def __init__(self, within: CandidateGenerator, steps: list[Step]) -> None:
        self.within = within
        self.steps = steps
        self.requires_model_outputs = within.requires_model_outputs
        self.model_kwargs_overrides = getattr(within, "model_kwargs_overrides", {})
        self._position = 0
        self._proposed: list[int] = []

    def get_candidates(self, input_ids: Any, **more: Any) -> tuple[Any, Any]:
        """Return what the generator proposes."""
        candidates, logits = self.within.get_candidates(input_ids, **more)
        self._position = input_ids.shape[1] - 1
        self._proposed = candidates[0, input_ids.shape[1] :].tolist()
        return candidates, logits

    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: Any) -> None:
        """Note how many tokens were accepted."""
        self.within.update_candidate_strategy(input_ids, scores, num_matches)
        drafted = tuple((token,) for token in self._proposed)
        self.steps.append(Step(self._position, drafted, int(num_matches)))


def decoding(drafter: Drafter | None, watch: Watch, steps: list[Step]) -> Callable[..., Any]:
    """Return assisted generation by a drafter, as `generate` takes it for `custom_generate`.

    Args:
        drafter: The drafter; None for the generator that transformers itself would use.
        watch: Hooks on the model that keep the layers that the drafter reads.
        steps: Where what was accepted is noted, pass by pass.
    """

    def decode(model: Any, input_ids: TokenIds, **asked: Any) -> Any:
        own = model._get_candidate_generator

        def make(**wanted: Any) -> Recorder:
            if drafter is None:
                return Recorder(own(**wanted), steps)
            processors = wanted["logits_processor"]
            config = wanted["generation_config"]
            return Recorder(Candidates(drafter, watch, model, config, processors), steps)

        with _in_place_of(model, "_get_candidate_generator", make):
            return model._assisted_decoding(input_ids, **asked)

    return decode


@contextmanager
def _in_place_of(owner: Any, name: str, instead: Any) -> Iterator[None]:
    """Let something stand for an attribute that the class of an object has."""
    setattr(owner, name, instead)
    try:
        yield
    finally:
        delattr(owner, name)


def _cropped(model: PreTrainedModel) -> Caching:
    """Return how caches are kept in assisted generation: of the model's kind, cropped."""

    def fresh() -> DynamicCache:
        cache = DynamicCache(config=model.config)
        cache.activate_past_recording()
        return cache

    def keep(cache: Cache, rows: int, kept: Tensor) -> None:
        layers: list[Any] = cache.layers
        for layer in layers:
            if layer.is_initialized:
                layer.crop(len(kept) - rows)

    return Caching(fresh, keep)

"""A pair in its template as tokens, and which of them are the target's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probekit.data.pairs import TEMPLATE, Pair
from probekit.errors import DataError, ModelError

LAST = 20


@dataclass(frozen=True)
class Sample:
    """Token ids of one sample, and which of them are its target's.

    Attributes:
        name: Line, row or file.
        token_ids: Token ids, BOS included where the tokenizer has one, shape (pos,).
        target: True where the token belongs to the target, shape (pos,).
    """

    name: str
    token_ids: Int[Tensor, " pos"]
    target: Bool[Tensor, " pos"]

    def last(self, count: int = LAST) -> Bool[Tensor, " pos"]:
        """Return the mask of the last `count` tokens of the target, shape (pos,).

        Raises:
            DataError: If the target has fewer.
        """
        places = self.target.nonzero()[:, 0]
        if len(places) < count:
            raise DataError(f"{self.name}: its target has {len(places)} tokens, {count} are needed")
        mask = torch.zeros_like(self.target)
        mask[places[-count:]] = True
        return mask


def sample(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Return a pair in the paper's template, with the mask of the target's tokens.

    Raises:
        ModelError: If the tokenizer does not say which characters a token stands for.
        DataError: If its tokens do not reach from the first to the last character of the target.
    """
    prompt = TEMPLATE.format(source=pair.source)
    ids, spans = _encoded(prompt + pair.target, tokenizer)
    start, end = len(prompt), len(prompt) + len(pair.target)
    # A token that holds the space before the target, too, is the target's first token.
    inside = [last > start for _, last in spans]
    covered = spans[inside.index(True) :] if any(inside) else []
    if not covered or covered[0][0] > start or covered[-1][1] < end:
        raise DataError(
            f"{pair.name}: this tokenizer's offsets do not cover the target, so that its tokens "
            "cannot be told from the prompt's"
        )
    return _with_bos(pair.name, ids, inside, tokenizer)


def _encoded(
    string: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[tuple[int, int]]]:
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say which characters a token stands for; pairs "
            "need a fast tokenizer (tokenizer.json)"
        )
    found = tokenizer(string, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return found["input_ids"], found["offset_mapping"]


def _with_bos(
    name: str, ids: Sequence[int], inside: Sequence[bool], tokenizer: PreTrainedTokenizerBase
) -> Sample:
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    target = torch.tensor([False] * len(bos) + list(inside))
    return Sample(name, torch.tensor([*bos, *ids]), target)

"""Classes of target tokens: pieces of words, repeats, frequent and rare ones.

piece      first piece of a word; continuation, within a word; other, such as a sign or a space
repeated   whether the same two tokens, so far apart, stood before in the block: an induction
           head could copy the second
frequency  how often the token is a target in training
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probekit.data.blocks import Blocks

FIRST, CONTINUATION, OTHER = "first piece of a word", "within a word", "not in a word"
REPEATED, NEW = "repeated", "not repeated"
# Times seen in training at which a token counts as more frequent.
FREQUENCIES = {0: "seen up to 9 times", 10: "seen 10 to 99 times", 100: "seen 100 times or more"}


def target_classes(
    places: pd.DataFrame, blocks: Blocks, spelt: Sequence[str], counts: NDArray[np.float64]
) -> pd.DataFrame:
    """Return the classes of the targets of some positions.

    Args:
        places: Columns block, position and offset.
        blocks: The blocks that the positions are in.
        spelt: The text of each token, by id, as `token_text.spell` has it.
        counts: How often each token is a target in training, shape (vocab,).

    Returns:
        Columns piece, repeated and frequency, one row a row of `places`.
    """
    ids = blocks.token_ids.numpy()
    block, at, offset = (places[name].to_numpy() for name in ("block", "position", "offset"))
    target, before = ids[block, at + offset], ids[block, at + offset - 1]
    starts = np.array([_in_word(text[:1]) for text in spelt])
    ends = np.array([_in_word(text[-1:]) for text in spelt])
    word = np.array([_in_word(text.lstrip()[:1]) for text in spelt])
    inside = starts[target] & ends[before]
    piece = np.where(inside, CONTINUATION, np.where(word[target], FIRST, OTHER))
    seen = np.searchsorted(list(FREQUENCIES), counts[target], side="right") - 1
    frequency = np.array(list(FREQUENCIES.values()))[seen]
    came = np.zeros(len(places), dtype=bool)
    for k in np.unique(offset):
        rows = offset == k
        came[rows] = repeats(blocks, int(k))[block[rows], at[rows]]
    repeated = np.where(came, REPEATED, NEW)
    return pd.DataFrame({"piece": piece, "repeated": repeated, "frequency": frequency})


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def repeats(blocks: Blocks, offset: int) -> NDArray[np.bool_]:
    """Return where the tokens at t and t + offset stood as far apart before, within reach of t.

    Args:
        blocks: The blocks.
        offset: Offset of the targets.

    Returns:
        Shape (block, pos); False where the position has no target in its document.

    >>> from probekit.data.blocks import pack
    >>> from probekit.data.separator import Separator
    >>> nothing = Separator("none", bos=None, end=None)
    >>> blocks = pack([[5, 6, 7, 5, 6, 5, 8]], [0], block=7, separator=nothing)
    >>> repeats(blocks, 1).astype(int).tolist()
    [[0, 0, 0, 1, 0, 0, 0]]
    """
    ids = blocks.token_ids.numpy()
    block, at = blocks.valid(offset).numpy().nonzero()
    pairs = {"block": block, "here": ids[block, at], "there": ids[block, at + offset]}
    first = pd.DataFrame(pairs | {"at": at}).groupby(list(pairs))["at"].transform("min")
    found = np.zeros(ids.shape, dtype=bool)
    found[block, at] = first.to_numpy() + offset <= at
    return found

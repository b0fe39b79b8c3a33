"""Numbers of a few positions in few bytes: arrays as base64, to be read back by the page."""

import base64
import math
from collections.abc import Sequence

import numpy as np

NONE = 65_535  # stands for no target among the codes of nats
_EXACT_RANKS = 128  # above it a rank is kept to 7 %: codes 128 to 255 reach over 500,000
_CODES_AN_OCTAVE = 10.5


def pack_targets(nats: Sequence[float | None], ranks: Sequence[int | None]) -> str:
    """Pack cross-entropies in millinats, two bytes each and little-endian, then the ranks' codes.

    Args:
        nats: Cross-entropy of the target by position, in nats; None where there is no target.
            From 65.534 on it is kept as that.
        ranks: Place of the target by position, from 1; None where there is no target.

    >>> base64.b64decode(pack_targets([1.5, None], [1, None])).hex()
    'dc05ffff0000'
    """
    milli = [NONE if n is None else min(round(1000 * n), NONE - 1) for n in nats]
    codes = [0 if rank is None else rank_code(rank) for rank in ranks]
    return _text(np.array(milli, "<u2").tobytes() + np.array(codes, np.uint8).tobytes())


def rank_code(rank: int) -> int:
    """Return the code of a rank: exact up to 128, then in steps of 7 %.

    >>> rank_code(1), rank_code(128), rank_code(130_000), rank_code(10**9)
    (0, 127, 232, 255)
    """
    if rank <= _EXACT_RANKS:
        return rank - 1
    above = round(_CODES_AN_OCTAVE * math.log2(rank / _EXACT_RANKS))
    return min(255, _EXACT_RANKS - 1 + max(above, 1))


def pack_probs(probs: Sequence[float]) -> str:
    """Pack probabilities as 255 times their root, a byte each: within 0.4 points of a percent.

    >>> base64.b64decode(pack_probs([0.0, 0.25, 1.0])).hex()
    '0080ff'
    """
    return _text(np.rint(255 * np.sqrt(np.array(probs, float))).astype(np.uint8).tobytes())


def pack_numbers(numbers: Sequence[int], width: int) -> str:
    """Pack whole numbers below 2 ** width in `width` bits each, the highest bit first.

    >>> base64.b64decode(pack_numbers([1, 2, 3], 4)).hex()
    '1230'
    """
    bits = np.array(numbers, np.int64).reshape(-1, 1) >> np.arange(width)[::-1]
    return _text(np.packbits((bits & 1).astype(np.uint8)).tobytes())


def packed_bytes(bits: int) -> float:
    """Return how many bytes of the page `bits` bits take: base64 writes six in a byte.

    >>> packed_bytes(24)
    4.0
    """
    return bits / 6


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")

"""Separators as tests name them."""

from probekit.data.separator import Separator


def ends(bos: int | None, end: int | None) -> Separator:
    """Return the separator that a model knows: the end token, a target; None for nothing."""
    return Separator("none" if end is None else "eos", bos, end, scored=end is not None)

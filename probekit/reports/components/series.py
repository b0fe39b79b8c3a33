"""How runs that are set side by side are told apart: colour in order of size, and line style."""

from collections.abc import Sequence

# Of lines and of their keys in legends; the fifth run has the first style again.
DASHES: Sequence[object] = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))


def run_colours(count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return colours of runs 1 .. count, in order of size, on a light and on a dark page.

    Ordered by lightness, the largest run farthest from the page, and cut so that every line
    keeps a contrast of 3:1 with it. Blue to green, while offsets go from blue to orange.

    Args:
        count: How many runs, 1 or more.

    Returns:
        Hex colours for the light and for the dark page.
    """
    return _cut(count, 0.63, 0.2), _cut(count, 0.44, 0.97)


def _cut(count: int, start: float, end: float) -> tuple[str, ...]:
    import matplotlib as mpl
    import seaborn  # noqa: F401  its palettes are registered by its import
    from matplotlib.colors import to_hex

    step = (end - start) / max(count - 1, 1)
    return tuple(to_hex(mpl.colormaps["mako"](start + step * i)) for i in range(count))

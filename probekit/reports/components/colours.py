"""Colours of offsets, of runs and of the map's steps; the line styles of numbered series."""

import math
from collections.abc import Sequence

Dashes = str | tuple[int, Sequence[float]]  # matplotlib's name, or offset and lengths
# Of series by number, and of their keys in legends; the fifth has the first style again.
DASHES: Sequence[Dashes] = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
LIGHT, DARK = "#fdfdfc", "#14171c"  # the page's background in either scheme
MOST_EVEN = 8  # offsets whose colours are spaced evenly
STEPS = 12  # of the map; finer steps cannot be told apart in a cell


def offset_colours(count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return colours of offsets 1 .. count on a light and on a dark page.

    The scale is ordered by lightness, so that order survives colour blindness and grey print;
    its ends are cut so that every line keeps a contrast of 3:1 with the page. Of many offsets
    those nearest stand apart, as figures show these.

    Args:
        count: How many offsets, 1 or more.

    Returns:
        Hex colours for the light and for the dark page.
    """
    places = [i / max(count - 1, 1) for i in range(count)]
    if count > MOST_EVEN:
        places = [math.log(i + 1, count) for i in range(count)]
    return _cut("plasma", places, 0.02, 0.63), _cut("plasma", places, 0.47, 0.95)


def run_colours(count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return colours of runs 1 .. count, in order of size, on a light and on a dark page.

    Ordered by lightness, the largest run farthest from the page, and cut so that every line
    keeps a contrast of 3:1 with it. Blue to green, while offsets go from blue to orange.

    Args:
        count: How many runs, 1 or more.

    Returns:
        Hex colours for the light and for the dark page.
    """
    places = [i / max(count - 1, 1) for i in range(count)]
    return _cut("mako", places, 0.63, 0.2), _cut("mako", places, 0.44, 0.97)


def map_steps() -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Return (background, text) of each step of the map, on a light and on a dark page.

    The lowest step is close to the page, the highest far from it; text is black or white,
    whichever has more contrast.
    """
    import seaborn as sns

    light = sns.light_palette("#175a80", STEPS).as_hex()
    dark = sns.dark_palette("#7cc4ec", STEPS).as_hex()
    return tuple((c, text_on(c)) for c in light), tuple((c, text_on(c)) for c in dark)


def text_on(background: str) -> str:
    """Return black or white, whichever reads better on a background.

    >>> text_on("#ffff00"), text_on("#000080")
    ('#000', '#fff')
    """
    return max("#000", "#fff", key=lambda text: contrast(text, background))


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two hex colours, from 1 to 21.

    Source: WCAG 2.2, relative luminance and contrast ratio.

    >>> round(contrast("#000", "#ffffff"), 1)
    21.0
    """
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _cut(palette: str, places: Sequence[float], start: float, end: float) -> tuple[str, ...]:
    """Return the colours of a palette at places between 0, its `start`, and 1, its `end`."""
    import matplotlib as mpl
    import seaborn  # noqa: F401  its palettes are registered by its import
    from matplotlib.colors import to_hex

    shares = [start + (end - start) * place for place in places]
    return tuple(to_hex(mpl.colormaps[palette](share)) for share in shares)


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts: Sequence[float] = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

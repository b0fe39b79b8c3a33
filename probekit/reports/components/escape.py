"""Text of a run, made fit to be shown: nothing invisible may act on the page."""

import re

# Marks that reorder what follows them: a name could otherwise pose as another.
_REORDERING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNFIT = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff{_REORDERING}]")


def clean(text: str) -> str:
    r"""Return text with control, reordering and unpaired surrogate characters spelled out.

    HTML escaping is not done here: the template does it.

    Args:
        text: Any string; newlines and tabs stay.

    Returns:
        A string that encodes to UTF-8 and that an HTML parser keeps as it is.

    >>> clean("a\x00b\u202ec")
    'a⟨U+0000⟩b⟨U+202E⟩c'
    """
    return _UNFIT.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)

"""Text of a run made visible: control and reordering characters spelled out, tokens marked."""

import re
import unicodedata
from functools import lru_cache

MOST_CHARACTERS = 40  # of a token; the longest words of most vocabularies are shorter
NEWLINE, EMPTY, CUT = "↵", "∅", "…"
_MARKS = {"\n": NEWLINE, "\t": "⇥", "\N{NO-BREAK SPACE}": "⍽"}
_CIRCLE = "\N{DOTTED CIRCLE}"
_MOST_STACKED = 3  # combining marks on one letter; more would cover the lines above and below
_RIGHT_TO_LEFT = {"R", "AL"}
_MARKED = re.compile(f"([{''.join(_MARKS)}])")
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
    return _UNFIT.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


@lru_cache(maxsize=100_000)
def pieces(token: str) -> tuple[str, ...]:
    r"""Split a token into text and marks that stand for what cannot be seen.

    Args:
        token: Text of a token, as the tokenizer has it.

    Returns:
        Text, mark, text, mark, ..., text: an odd number of them, of which texts may be empty.
        Spaces stay spaces. Control and reordering characters are spelled out, combining marks
        without a letter stand on a dotted circle, and long tokens are cut.

    >>> pieces(" a"), pieces("\n\n"), pieces("")
    ((' a',), ('', '↵', '', '↵', ''), ('', '∅', ''))
    >>> pieces("x" * 10_000)[1]
    '… 10,000 characters'
    """
    if not token:
        return ("", EMPTY, "")
    shown = token if len(token) <= MOST_CHARACTERS + 1 else token[:MOST_CHARACTERS]
    parts = _MARKED.split(_grounded(shown))
    spelled = [_MARKS[part] if n % 2 else clean(part) for n, part in enumerate(parts)]
    if shown != token:
        spelled += [f"{CUT} {len(token):,} characters", ""]
    return tuple(spelled)


def right_to_left(texts: tuple[str, ...]) -> bool:
    """Return whether most letters with a direction run from right to left.

    >>> right_to_left(("שלום", " a")), right_to_left(("abc",))
    (True, False)
    """
    directions = [unicodedata.bidirectional(letter) for text in texts for letter in text[:1000]]
    return sum(kind in _RIGHT_TO_LEFT for kind in directions) > directions.count("L")


def _grounded(text: str) -> str:
    """Put marks that have no letter on a circle, cut high stacks, spell what is invisible."""
    if not any(map(_visible, text)):
        return "".join(letter if letter in " \n\t\xa0" else _spelled(letter) for letter in text)
    kept: list[str] = []
    stacked = 0
    for letter in text:
        mark = unicodedata.category(letter).startswith("M")
        stacked = stacked + 1 if mark else 0
        if mark and not (kept and _visible(kept[-1])) and stacked == 1:
            kept.append(_CIRCLE)
        if stacked <= _MOST_STACKED:
            kept.append(letter)
    return "".join(kept)


def _visible(letter: str) -> bool:
    return unicodedata.category(letter) not in {"Cf", "Zs", "Zl", "Zp", "Cc"}


def _spelled(letter: str) -> str:
    return f"⟨U+{ord(letter):04X}⟩"

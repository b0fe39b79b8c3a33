"""Show doctests and columns of docstrings as they were typed. An extension of griffe."""

import re
from typing import Any

import griffe

# From the first `>>>` to the next empty line; lines of which each has a gap of two spaces.
DOCTEST = re.compile(r"^(?P<indent> *)>>> .*(?:\n.*\S.*)*", re.M)
COLUMNS = re.compile(r"(?:^\S(?:.*\S)? {2,}\S.*(?:\n +\S.*)*(?:\n|\Z)){2,}", re.M)


class Preformatted(griffe.Extension):
    """Put them between fences, where brackets are no links and columns stay columns."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object that was found."""
        if obj.docstring is not None:
            obj.docstring.value = COLUMNS.sub(
                lambda found: f"```text\n{found[0].rstrip()}\n```\n",
                DOCTEST.sub(
                    lambda found: f"{found['indent']}```python\n{found[0]}\n{found['indent']}```",
                    obj.docstring.value,
                ),
            )

"""The errors that probekit raises.

    ProbekitError               anything probekit states as a problem
    ├── SettingsError           a setting is outside what is allowed
    ├── DataError               the text or its tokens cannot be used as asked
    ├── ModelError              the model cannot be found, loaded or understood
    │   └── UnreachableError    a repository is gated or out of reach
    ├── NumericalError          activations or losses are not finite
    └── RunError                a run folder cannot be written or read

A message says what is allowed, what came, and the way out.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ProbekitError(Exception):
    """Base of every problem that probekit states."""


class SettingsError(ProbekitError, ValueError):
    """A setting is outside what is allowed."""


class DataError(ProbekitError, ValueError):
    """The text or its tokens cannot be used as asked."""


class ModelError(ProbekitError):
    """The model cannot be found, loaded or understood."""


class UnreachableError(ModelError):
    """A repository is gated or out of reach from here."""


class NumericalError(ProbekitError, ArithmeticError):
    """Activations or losses are not finite."""


class RunError(ProbekitError):
    """A run folder cannot be written or read, or a run cannot go on."""


@contextmanager
def memory_stated() -> Iterator[None]:
    """State that memory ran out, as Python, numpy and torch each say it in their way.

    Raises:
        RunError: If it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error)
        # torch raises the first of a GPU, and of a CPU one that says so in words.
        named = "OutOfMemoryError", "MemoryError", "_ArrayMemoryError"
        if type(error).__name__ not in named and "allocate memory" not in said:
            raise
        raise RunError(
            f"memory ran out ({said.partition(chr(10))[0] or 'Python says no more'}). Ask for "
            "less at once: a smaller --batch-size, --max-branches, --block or --max-tokens"
        ) from error

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
    """A run folder cannot be written or read."""

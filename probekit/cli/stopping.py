"""What stops a command from outside: Ctrl-C, and SIGTERM, which ends it in the same way."""

import signal
from types import FrameType

# Exit codes: 128 and the number of the signal, as a shell counts.
INTERRUPTED, TERMINATED = 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM came: whatever cleans up after Ctrl-C does so after it."""


def listen() -> None:
    """Let SIGTERM raise `Terminated` instead of killing this process where it stands."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(_: int, __: FrameType | None) -> None:
    raise Terminated


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a process that was stopped."""
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED

"""The processes of one run: one, or as many as torchrun (or accelerate launch) starts.

Each rank reads the same text with the same model, on a device of its own, and does its share of
the work; the first merges, prints and writes. They meet at the store that the launcher keeps,
through which nothing large goes: what they make is in files. Whoever waits does so in Python, so
that a signal reaches it.
"""

import itertools
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from probekit.errors import RunError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

# How long a rank waits for the launcher's store, and between two looks at it.
START = timedelta(minutes=10)
LOOK_SECONDS = 0.02
# How long a rank that is told to end may take to do so in order.
GRACE_SECONDS = 3

LOST = (
    "another of the {count} processes of this run was killed (most often, memory ran out), or all "
    "were told to stop. Finished stages remain: the same command goes on from here, with any "
    "number of processes"
)


@dataclass(frozen=True)
class Ranks:
    """One rank, and how it meets the others.

    Attributes:
        number: Its number, from 0.
        count: How many there are.
        store: Where they meet; None where there is one.
    """

    number: int = 0
    count: int = 1
    store: "Store | None" = None
    _turns: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def first(self) -> bool:
        """Whether it merges, prints and writes."""
        return self.number == 0

    def share(self, items: Sequence[T], shift: int = 0) -> list[T]:
        """Return every so-manieth item: each is one rank's.

        >>> [Ranks(number, 2).share("abcde") for number in (0, 1)]
        [['a', 'c', 'e'], ['b', 'd']]
        >>> Ranks(0, 2).share("abcde", shift=1)
        ['b', 'd']
        """
        return list(items[(self.number - shift) % self.count :: self.count])

    def same(self, make: Callable[[], T]) -> T:
        """Return what the first rank makes, on every rank; all of them call this, in turn."""
        if self.store is None:
            return make()
        key = self._turn()
        if self.first:
            made = make()
            self._send(key, made)
            return made
        received: T = self._wait_for(key)
        return received

    def gather(self, part: T) -> list[T]:
        """Return to every rank the parts of all, in order; all of them call this, in turn."""
        if self.store is None:
            return [part]
        turn = self._turn()
        self._send(f"{turn} of {self.number}", part)
        return [self._wait_for(f"{turn} of {number}") for number in range(self.count)]

    def meet(self) -> None:
        """Wait until every rank is here."""
        self.gather(None)

    def _turn(self) -> str:
        return f"turn {next(self._turns)}"

    def _send(self, key: str, value: object) -> None:
        assert self.store is not None
        self.store.set(key, pickle.dumps(value))  # type: ignore[arg-type]  # it takes bytes too

    def _wait_for(self, key: str) -> Any:
        assert self.store is not None
        try:
            while not self.store.check([key]):
                time.sleep(LOOK_SECONDS)
            return pickle.loads(self.store.get(key))
        except RuntimeError:  # all that torch says where the store is gone
            raise RunError(LOST.format(count=self.count)) from None


def number_and_count() -> tuple[int, int]:
    """Return which rank this process is, from 0, and of how many, as its launcher says."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ.get("RANK", "0")), count) if count > 1 else (0, 1)


@cache
def joined() -> Ranks:
    """Return this process among the others that were started with it."""
    number, count = number_and_count()
    if count == 1:
        return Ranks()
    from torch.distributed.rendezvous import rendezvous

    store, *_ = next(rendezvous("env://", timeout=START))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    return Ranks(number, count, store)


def last_words() -> bool:
    """Whether this rank is the first that has something to say of why all of them end."""
    if number_and_count() == (0, 1):
        return True
    store = joined().store
    assert store is not None
    try:
        return bool(store.add("last words", 1) == 1)
    except RuntimeError:  # the store is gone, and who kept it has said why
        return False


def _stop(_: int, __: FrameType | None) -> None:
    """End as a launcher tells to do whose other process died."""
    signal.signal(signal.SIGALRM, _end)
    signal.alarm(GRACE_SECONDS)
    raise RunError(LOST.format(count=joined().count))


def _end(_: int, __: FrameType | None) -> None:
    """End where nobody heard the error: Python ignores what is raised while it frees memory."""
    if last_words():
        sys.stderr.write(f"probekit: {LOST.format(count=joined().count)}\n")
        sys.stderr.flush()
    os._exit(1)

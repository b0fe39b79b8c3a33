"""Progress of a run: the time of each stage, lines and bars for a person, a line of log.jsonl."""

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from probekit.errors import RunError

# Seconds that no stage takes: what says so is damaged.
LONGEST = 1e9

Say = Callable[[str], None]
T = TypeVar("T")


def in_ipython() -> bool:
    """Return whether a person sits at IPython or a notebook of it."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def heard(say: Say | None) -> Say:
    """Return what is called with lines of progress: print in IPython, silence elsewhere.

    Args:
        say: What a caller named, which is taken then.
    """
    return say or (print if in_ipython() else lambda _: None)


def bar(items: Iterable[T], label: str, unit: str = "it", silent: bool = False) -> Iterable[T]:
    """Return items with a bar for a pass over them, on a terminal or in IPython."""
    with warnings.catch_warnings():
        # Where a notebook has no widgets, the bar is of text.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    # None: no bar where standard error is not a terminal.
    disable = silent or (False if in_ipython() else None)
    found: Iterable[T] = tqdm(items, label, leave=False, disable=disable, unit=unit)
    return found


@dataclass
class Journal:
    """The stages of a run as they start and end.

    Attributes:
        path: log.jsonl; events are added to it. None, and nothing is kept.
        say: Called with each line that a person should see.
        seconds: Seconds by stage, without those of stages inside it: they add up to the whole.
    """

    path: Path | None
    say: Say
    seconds: dict[str, float] = field(default_factory=dict)
    # Of stages that this process finished, not of those that it recalls.
    _spent: float = field(default=0.0, init=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and note its start and end."""
        self.note(name, "start")
        start, before = time.perf_counter(), self._spent
        yield
        inside = self._spent - before
        self.seconds[name] = time.perf_counter() - start - inside
        self._spent += self.seconds[name]
        self.note(name, "end", seconds=round(self.seconds[name], 3))
        self.say(f"  {name}: {self.seconds[name]:.1f} s")

    def recall(self, name: str) -> None:
        """Take the seconds of a stage that an earlier process finished from the log."""
        for event in self._events() if name not in self.seconds else ():
            seconds = event.get("seconds")
            ended = (event.get("stage"), event.get("event")) == (name, "end")
            if ended and isinstance(seconds, int | float) and 0 <= seconds < LONGEST:
                self.seconds[name] = seconds

    def _events(self) -> Iterator[dict[str, Any]]:
        if self.path is None or not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            # A process that is killed may leave half a line, and a disk that fails any.
            with suppress(ValueError, RecursionError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def note(self, stage: str, event: str, **more: object) -> None:
        """Add an event to log.jsonl.

        Raises:
            RunError: If it cannot be written.
        """
        if self.path is None:
            return
        line = {"time": time.time(), "stage": stage, "event": event, **more}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror}") from None

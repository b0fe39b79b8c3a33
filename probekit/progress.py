"""Progress of a run: the time of each stage, lines and bars for a person, a line of log.jsonl."""

import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
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


class _Line:
    """One line on a terminal, or a bar in IPython, for all passes of a stage."""

    def __init__(self) -> None:
        self.stage, self.n_passes, self.busy = "", 0, False
        self.shown: Any = None

    def begin(self, stage: str) -> None:
        """Go to another stage, or to none."""
        self.close()
        # A pass that an error ended may not have been told so yet.
        self.stage, self.n_passes, self.busy = stage, 0, False

    def close(self) -> None:
        """Clear the line."""
        if self.shown is not None:
            self.shown.close()
        self.shown = None

    def over(self, items: Iterable[T], label: str, unit: str) -> Iterator[T]:
        """Yield items, and show which pass this is, how far it is, its rate and the time left."""
        self.n_passes += 1
        name = f"{self.stage}, pass {self.n_passes}: {label}" if self.stage else label
        total = len(items) if isinstance(items, Sized) else None
        if self.shown is None:
            self.shown = _bar(name, total, unit)
        else:
            self.shown.set_description_str(name, refresh=False)
            self.shown.reset(total)
        shown, self.busy = self.shown, True
        try:
            for item in items:
                yield item
                shown.update()
        finally:
            self.busy = False
            if not self.stage:
                self.close()


def _bar(name: str, total: int | None, unit: str) -> Any:
    with warnings.catch_warnings():
        # Where a notebook has no widgets, the bar is of text.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    options: dict[str, Any] = {"disable": False}
    if not in_ipython():
        size = shutil.get_terminal_size()  # 80 by 24 of a terminal that does not say
        form = "  {desc}, {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left"
        # None: nothing where standard error is not a terminal.
        options = {"disable": None, "bar_format": form, "ncols": size.columns - 1}
        options |= {"nrows": size.lines}
    return tqdm(desc=name, total=total, unit=unit, leave=False, **options)


LINE = _Line()


def bar(items: Iterable[T], label: str, unit: str = "it", silent: bool = False) -> Iterable[T]:
    """Return items; a pass over them shows on the line of its stage, but not one inside another."""
    return items if silent or LINE.busy else LINE.over(items, label, unit)


@dataclass
class Journal:
    """The stages of a run as they start and end.

    Attributes:
        path: log.jsonl; events are added to it. None, and nothing is kept.
        say: Called with each line that a person should see.
        seconds: Seconds by stage, without those of stages inside it: they add up to the whole.
        expected: How many stages there are, as far as is known.
    """

    path: Path | None
    say: Say
    seconds: dict[str, float] = field(default_factory=dict)
    expected: int = 0
    # Of stages that this process finished, not of those that it recalls.
    _spent: float = field(default=0.0, init=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and note its start and end."""
        self.note(name, "start")
        start, before, outer = time.perf_counter(), self._spent, LINE.stage
        LINE.begin(f"{self._place(len(self.seconds) + 1)} {name}".strip())
        try:
            yield
        finally:
            LINE.begin(outer)
        inside = self._spent - before
        self.seconds[name] = time.perf_counter() - start - inside
        self._spent += self.seconds[name]
        self.note(name, "end", seconds=round(self.seconds[name], 3))
        place = self._place(len(self.seconds))
        self.say(f"  {name}: {self.seconds[name]:.1f} s {place}".rstrip())

    def _place(self, number: int) -> str:
        return f"({number} of {max(number, self.expected)})" if self.expected else ""

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

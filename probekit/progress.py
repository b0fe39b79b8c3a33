"""Progress of a run: the time of each stage, a line for a person, a line of log.jsonl."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Say = Callable[[str], None]


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

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and note its start and end."""
        self.note(name, "start")
        start, before = time.perf_counter(), sum(self.seconds.values())
        yield
        inside = sum(self.seconds.values()) - before
        self.seconds[name] = time.perf_counter() - start - inside
        self.note(name, "end", seconds=round(self.seconds[name], 3))
        self.say(f"  {name}: {self.seconds[name]:.1f} s")

    def recall(self, name: str) -> None:
        """Take the seconds of a stage that an earlier process finished from the log."""
        for event in self._events() if name not in self.seconds else ():
            if (event["stage"], event["event"]) == (name, "end"):
                self.seconds[name] = event["seconds"]

    def _events(self) -> Iterator[dict[str, Any]]:
        if self.path is None or not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            # A process that is killed may leave half a line.
            with suppress(ValueError):
                yield json.loads(line)

    def note(self, stage: str, event: str, **more: object) -> None:
        """Add an event to log.jsonl."""
        if self.path is None:
            return
        line = {"time": time.time(), "stage": stage, "event": event, **more}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

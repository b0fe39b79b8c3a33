"""What becomes of runs that are killed, and of runs whose disk is full: for docs/faults.md.

python benchmarks/faults.py kill [analyze|heads|sweep|reproduce ...] [--moments 20]
sudo python benchmarks/faults.py disk       (mounts small file systems in memory)
"""

import argparse
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SMALL = ["--max-tokens", "3000", "--device", "cpu", "--separator", "eos"]
COMMANDS = {
    "analyze": ["analyze", "--model", "tiny-s", "--controls", "none", *SMALL],
    "heads": ["heads", "--model", "tiny-s", "--epochs", "1", "--sweep", "none", *SMALL],
    "sweep": ["sweep", "--models", "tiny-s,tiny-m", "--controls", "none", *SMALL],
    "reproduce": ["reproduce", "figure-1", "--model", "tiny-s", "--samples", "3"],
}
RESULTS = ("results.json", "heads.json", "reproduction.json")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# Two runs are the same where no score differs by more.
TOLERANCE = 1e-6
KIB = (16, 100, 300, 600, 900, 1100, 1300, 1600)


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command on a run folder, in a group of processes of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "probekit", *arguments, "--output", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Return the exit code of a command on a run folder, and the last line of its errors."""
    process = start(arguments, folder)
    _, errors = process.communicate()
    if "Traceback" in errors:
        print(errors, file=sys.stderr)
    return process.returncode, (errors.strip().splitlines() or [""])[-1]


def scores(folder: Path) -> dict[str, Any]:
    """Return the scores of all runs in a folder, by the place of their file."""
    found = {}
    for name in RESULTS:
        for path in sorted(folder.rglob(name)):
            document = json.loads(path.read_text(encoding="utf-8"))
            part = "rows" if name == "reproduction.json" else "scores"
            found[str(path.relative_to(folder))] = document[part]
    return found


def numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in a value of JSON, in order."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield float(value)


def difference(one: Any, other: Any) -> float:
    """Return the largest difference between two values of JSON; infinite where shapes differ."""
    pairs = list(numbers(one)), list(numbers(other))
    if len(pairs[0]) != len(pairs[1]):
        return math.inf
    return max((abs(a - b) for a, b in zip(*pairs, strict=True)), default=math.inf)


def kill(command: str, moments: int, folder: Path) -> None:
    """Kill a command at random moments, call it again, and print what became of each."""
    arguments, chance, began = COMMANDS[command], random.Random(0), time.monotonic()
    assert run(arguments, folder / "whole")[0] == 0
    seconds, expected = time.monotonic() - began, scores(folder / "whole")
    for number in range(moments):
        killed = folder / str(number)
        moment, sent = chance.uniform(0, seconds), SIGNALS[number % len(SIGNALS)]
        process = start(arguments, killed)
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(sent)
            process.communicate()
        ended = process.returncode
        kept = len([path for path in killed.rglob("stages/*") if path.suffix != ".sha256"])
        again, _ = run(arguments, killed)
        apart = difference(scores(killed), expected)
        good = again == 0 and apart <= TOLERANCE
        print(
            f"| {command} | {sent.name} | {moment:.1f} of {seconds:.1f} s | {ended} | {kept} | "
            f"{again} | {apart:.1e} | {'same' if good else 'DIFFERENT'} |",
            flush=True,
        )
        shutil.rmtree(killed)


def disk(folder: Path) -> None:
    """Analyze on file systems that are too small, make room, and call it again."""
    arguments, place = COMMANDS["analyze"], folder / "small"
    place.mkdir()
    assert run(arguments, folder / "whole")[0] == 0
    expected = scores(folder / "whole")
    for size in KIB:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
        subprocess.run(mount, check=True)
        code, said = run(arguments, place / "run")
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        again, _ = run(arguments, place / "run")
        apart = difference(scores(place / "run"), expected)
        said = said.replace(f"{place}/", "")
        print(f"| {size} KiB | {code} | `{said}` | {again} | {apart:.1e} |", flush=True)
        subprocess.run(["umount", str(place)], check=True)


def main() -> None:
    """Print the rows of a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=("kill", "disk"))
    parser.add_argument("commands", nargs="*", help=", ".join(COMMANDS))
    parser.add_argument("--moments", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if asked.table == "disk":
            disk(Path(name))
            return
        for command in asked.commands or COMMANDS:
            kill(command, asked.moments, Path(tempfile.mkdtemp(dir=name)))


if __name__ == "__main__":
    main()

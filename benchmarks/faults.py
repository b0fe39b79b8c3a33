"""What becomes of runs that are killed, and of runs whose disk is full: for docs/faults.md.

python benchmarks/faults.py kill [analyze|heads|sweep|reproduce ...] [--moments 20] [--seed 0]
sudo python benchmarks/faults.py disk       (mounts small file systems in memory)
"""

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from probekit.cli import main, stopping
from probekit.pipelines.analysis import analyze  # noqa: F401 -- before a process is forked
from probekit.pipelines.head_study import study_heads  # noqa: F401
from probekit.pipelines.reproduction import reproduce  # noqa: F401

SMALL = ["--max-tokens", "3000", "--device", "cpu", "--separator", "eos"]
COMMANDS = {
    "analyze": ["analyze", "--model", "tiny-s", "--controls", "none", *SMALL],
    "heads": ["heads", "--model", "tiny-s", "--epochs", "1", "--sweep", "none", *SMALL],
    "sweep": [
        "sweep",
        "--models",
        "tiny-s,tiny-m",
        "--controls",
        "none",
        "--layers",
        "1,3",
        "--offsets",
        "2",
        *SMALL,
    ],
    "reproduce": [
        "reproduce",
        "figure-1",
        "--model",
        "tiny-s",
        "--model",
        "tiny-m",
        "--extended",
        "0",
    ],
}
RESULTS = ("results.json", "heads.json", "reproduction.json")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# Two runs are the same where no score differs by more.
TOLERANCE = 1e-6
KIB = (16, 100, 300, 600, 900, 1100, 1300, 1600)


def start(arguments: list[str], folder: Path, said: Path) -> int:
    """Start a command on a run folder in a process of its own; return its number.

    It is forked from this one, which has imported everything: signals meet work, not imports.
    """
    said.parent.mkdir(exist_ok=True)
    number = os.fork()
    if number:
        return number
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where started behind a shell
    stopping.listen()
    for stream, path in ((sys.stdout, Path(os.devnull)), (sys.stderr, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    sys.argv = ["probekit", *arguments, "--output", str(folder)]
    code: Any = 1
    try:
        main.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def ended(number: int) -> int:
    """Wait for a process and return its exit code; of a killed one, the signal below 0."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Return the exit code of a command on a run folder, and the last line of its errors."""
    said = folder.with_name("said")
    code = ended(start(arguments, folder, said))
    lines = said.read_text(encoding="utf-8").strip().splitlines()
    if code and not lines[-1].startswith("probekit: "):
        print("\n".join(lines[-9:]), file=sys.stderr)
    return code, (lines or [""])[-1]


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


def kill(command: str, moments: int, seed: int, folder: Path) -> None:
    """Kill a command at random moments, call it again, and print what became of each."""
    arguments, chance, began = COMMANDS[command], random.Random(seed), time.monotonic()
    assert run(arguments, folder / "whole")[0] == 0
    seconds, expected = time.monotonic() - began, scores(folder / "whole")
    for number in range(moments):
        killed = folder / str(number)
        moment, sent = chance.uniform(0, seconds), SIGNALS[number % len(SIGNALS)]
        process = start(arguments, killed, folder / "said")
        time.sleep(moment)
        os.kill(process, sent)
        first = ended(process)
        kept = len([path for path in killed.rglob("stages/*") if path.suffix != ".sha256"])
        again, _ = run(arguments, killed)
        apart = difference(scores(killed), expected)
        good = again == 0 and apart <= TOLERANCE
        print(
            f"| {command} | {sent.name} | {moment:.1f} of {seconds:.1f} s | {first} | {kept} | "
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


def table() -> None:
    """Print the rows of a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=("kill", "disk"))
    parser.add_argument("commands", nargs="*", help=", ".join(COMMANDS))
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if asked.table == "disk":
            disk(Path(name))
            return
        for command in asked.commands or COMMANDS:
            kill(command, asked.moments, asked.seed, Path(tempfile.mkdtemp(dir=name)))


if __name__ == "__main__":
    table()

"""Run folders.

Finished runs whose files are damaged, or written by hand: with the digests that a run writes, and
without, as earlier versions left them.
"""

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

import probekit
from hostile.cases import Case
from probekit.digests import DIGESTS
from support import tiny_run

Damage = Callable[[Path], object]


@cache
def finished() -> Path:
    """Return the folder of a finished run of a tiny model."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    tiny_run.model(steps=1).save_pretrained(folder / "mini")
    tiny_run.tokenizer().save_pretrained(folder / "mini")
    text = str(tiny_run.jsonl(folder / "words.jsonl", tiny_run.documents()))
    asked = {**tiny_run.SETTINGS, "text": (text,), "separator": "eos", "layers": (2,)}
    asked |= {"controls": "none", "marginal": "off"}
    probekit.analyze(str(folder / "mini"), output=folder / "run", **asked)
    return folder / "run"


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change(**parts: Any) -> Damage:
    """Return what changes parts of a JSON file; None takes one out."""

    def edit(path: Path) -> None:
        content = {**json.loads(path.read_text()), **parts}
        kept = {name: value for name, value in content.items() if value is not None}
        path.write_text(json.dumps(kept))

    return edit


def first(part: str, value: str) -> Damage:
    """Return what gives the first number of this name in a JSON file another value."""
    return lambda path: path.write_text(
        re.sub(rf'"{part}": [-\d.e]+', f'"{part}": {value}', path.read_text(), count=1)
    )


def table(make: Callable[[pd.DataFrame], pd.DataFrame]) -> Damage:
    return lambda path: make(pd.read_parquet(path)).to_parquet(path)


def holding(text: str) -> Damage:
    return lambda path: path.write_text(text)


def given(file: str, damage: Damage, *command: str, digests: bool) -> Callable[[Path], list[str]]:
    """Return what copies the run to `run` and `other` and damages a file of `run`."""

    def make(folder: Path) -> list[str]:
        for name in ("run", "other"):
            shutil.copytree(finished(), folder / name)
        damage(folder / "run" / file)
        if not digests:
            (folder / "run" / DIGESTS).unlink()
        return list(command)

    return make


REPORT, COMPARE = ("report", "run"), ("compare", "run", "other")
AGAIN = ("analyze", "--config", "other/run.toml", "--output", "run")
WRITE_AGAIN = "Write it again: `probekit analyze --config run/run.toml --output run --overwrite`"
SCHEMA_ALONE = holding('{"schema": "probekit.results/4"}')
DEEP = holding("[" * 100_000)


def by_hand(name: str, file: str, damage: Damage, command: tuple[str, ...], says: str) -> Case:
    """Return a case of a folder without digests."""
    make = given(file, damage, *command, digests=False)
    return Case(name, make, f"run/{file} {says}…{WRITE_AGAIN}")


def damaged(name: str, file: str, damage: Damage, command: tuple[str, ...]) -> Case:
    """Return a case of a folder with digests."""
    said = f"run/{file} is damaged, or was changed: its sha256 is not in run.sha256. "
    return Case(name, given(file, damage, *command, digests=True), said + WRITE_AGAIN)


RESULTS, PASSAGES, SUMS = "results.json", "passages.json", "scores.parquet"
IS_NOT = "does not hold what schema probekit.results/4 says, at "

CASES = (
    by_hand("a schema alone", RESULTS, SCHEMA_ALONE, REPORT, IS_NOT + "'its top level': 'run'"),
    by_hand("a schema alone, compared", RESULTS, SCHEMA_ALONE, COMPARE, IS_NOT),
    by_hand("a schema alone, again", RESULTS, SCHEMA_ALONE, AGAIN, IS_NOT),
    by_hand("another schema", RESULTS, change(schema="x/1"), REPORT, "is not of schema probe"),
    by_hand("no model", RESULTS, change(model=None), COMPARE, IS_NOT + "'its top level': 'model'"),
    by_hand("no scores", RESULTS, change(scores=[]), REPORT, IS_NOT + "'scores': []"),
    by_hand("a null", RESULTS, first("nats", "null"), REPORT, IS_NOT + "'scores.0.nats': None is"),
    by_hand("a word", RESULTS, first("nats", '"x"'), REPORT, IS_NOT + "'scores.0.nats': 'x' is"),
    by_hand("1e308", RESULTS, first("nats", "1e308"), COMPARE, "is not JSON: 1e308 is no number"),
    by_hand("NaN", RESULTS, first("nats", "NaN"), REPORT, "is not JSON: NaN is no number that is"),
    by_hand("infinity", RESULTS, first("nats", "-1e999"), REPORT, "is not JSON: -1e999 is no num"),
    by_hand("digits", RESULTS, first("seed", "9" * 5000), REPORT, "is not JSON: an integer of 50"),
    by_hand("65 bits", RESULTS, first("seed", str(2**63)), REPORT, "is not JSON: an integer of 19"),
    by_hand("depth", RESULTS, DEEP, REPORT, "is not JSON: maximum recursion depth exceeded"),
    by_hand("depth of passages", PASSAGES, DEEP, REPORT, "is not JSON: maximum recursion depth"),
    by_hand("other passages", PASSAGES, change(vocabulary=3), REPORT, "does not hold what schema"),
    by_hand("unknown words", PASSAGES, change(vocabulary=["a"]), REPORT, "names tokens beyond its"),
    by_hand("no sums", SUMS, Path.unlink, COMPARE, "cannot be read as parquet: "),
    by_hand("half of the sums", SUMS, half, COMPARE, "cannot be read as parquet: "),
    by_hand("a column less", SUMS, table(lambda t: t.drop(columns="n")), COMPARE, "has no"),
    by_hand("sums of words", SUMS, table(lambda t: t.assign(n="x")), COMPARE, "has values that a"),
    damaged("a flipped bit", RESULTS, flipped, REPORT),
    damaged("a flipped bit, compared", RESULTS, flipped, COMPARE),
    damaged("a flipped bit, again", RESULTS, flipped, AGAIN),
    damaged("a flipped bit in sums", SUMS, flipped, COMPARE),
    damaged("half of the passages", PASSAGES, half, REPORT),
    Case(
        "a flipped bit in settings",
        given("run.toml", flipped, *AGAIN, digests=True),
        "run/run.toml is damaged, or was changed: its sha256 is not in run.sha256. Take it from a "
        "copy, or write it again: the command that made it, with --output run --overwrite",
    ),
    Case(
        "settings of a newer version",
        given("run.toml", lambda path: path.write_text("newer = 1\n"), *AGAIN, digests=False),
        "run/run.toml does not hold settings of this version of `probekit analyze`: unknown "
        "setting 'newer'.",
    ),
    Case(
        "settings of heads",
        given("run.toml", holding("# Settings of probekit heads\n"), *AGAIN, digests=False),
        "run/run.toml holds settings of `probekit heads`, not of `probekit analyze`: name another "
        "folder with --output",
    ),
    Case(
        "no run",
        lambda _: ["report", "run"],
        "run holds no finished run: there is no readable run/results.json",
    ),
)  # fmt: skip

"""Settings.

Flags and files of settings of every command, out of range, of another kind, or beyond all memory.
"""

from collections.abc import Callable
from pathlib import Path

from hostile.cases import Case
from hostile.texts import rows


def asked(*flags: str, command: str = "analyze", **files: str) -> Callable[[Path], list[str]]:
    """Return what makes a text and files, `_` a dot in their names, and the command."""

    def make(folder: Path) -> list[str]:
        (folder / "a.jsonl").write_bytes(rows())
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)
        return [command, *flags]

    return make


def of_tiny(*flags: str, **files: str) -> Callable[[Path], list[str]]:
    few = ("--max-tokens", "900", "--separator", "eos", "--dry-run")
    return asked("--model", "tiny-s", "--text", "a.jsonl", *few, *flags, **files)


HUGE = str(10**30)
QUICK = (
    "--layers", "6", "--controls", "none", "--marginal", "off", "--separator", "eos",
    "--output", "o",
)  # fmt: skip

CASES = (
    Case("no offset", asked("--offsets", "0"), "--offsets must be at least 1, got 0", 2),
    Case("offsets in words", asked("--offsets", "two"), "--offsets must be a whole number", 2),
    Case(
        "offsets beyond all",
        asked("--offsets", HUGE),
        "--offsets must be at most 9223372036854775807",
        2,
    ),
    Case("offsets beyond a block", asked("--block", "3"), "must be in 1..1 for blocks of 3", 2),
    Case("no block", asked("--block", "0"), "--block must be at least 3, got 0", 2),
    Case("layers in words", asked("--layers", "0,x"), "must be numbers such as", 2),
    Case("layers below", of_tiny("--layers", "-1"), "must be in 0..6 for this model …, got -1", 2),
    Case("layers above", of_tiny("--layers", HUGE), "--layers must be in 0..6 for this", 2),
    Case("layers twice", of_tiny("--layers", "6,6"), "Plan", 0),
    Case("nucleus of NaN", asked("--nucleus", "nan"), "--nucleus must be a finite number", 2),
    Case("nucleus above 1", asked("--nucleus", "2"), "--nucleus must be in (0, 1], got 2.0", 2),
    Case("branches", asked("--max-branches", "100000"), "--max-branches must be at most 65536", 2),
    Case("seeds beyond memory", asked("--seeds", "99999999999"), "--seeds must be at most 1000", 2),
    Case("a seed below", asked("--seed", "-1"), "--seed must be at least 0, got -1", 2),
    Case(
        "a seed above", asked("--seed", str(2**63)), "--seed must be at most 9223372036854775807", 2
    ),
    Case(
        "a last seed of several",
        asked("--seed", str(2**63 - 1), "--seeds", "2"),
        "--seed must be at most 9223372036854775806 for 2 seeds",
        2,
    ),
    Case("no batch", asked("--batch-size", "0"), "--batch-size must be at least 1, got 0", 2),
    Case(
        "a batch in words", asked("--batch-size", "x"), "must be a whole number or auto, got 'x'", 2
    ),
    Case("a batch beyond all", of_tiny("--batch-size", str(10**9)), "Plan", 0),
    Case("a dtype", asked("--dtype", "float8"), "'float8' is not one of 'auto', … 'float64'.", 2),
    Case("a device", asked("--device", "abacus"), "device must be auto, balanced, sequential", 2),
    Case("a device without values", asked("--device", "meta"), "device must be auto, balanced", 2),
    Case("a device without float64", asked("--device", "mps"), "device mps has no float64", 2),
    Case("a family", asked("--probe", "nope"), "--probe must be a list, each one of linear", 2),
    Case("no tokens", asked("--max-tokens", "0"), "--max-tokens must be at least 1, got 0", 2),
    Case("one token", of_tiny("--max-tokens", "1"), "Plan", 0),
    Case(
        "few tokens of several texts",
        asked("--model", "tiny-s", "--max-tokens", "600", *QUICK),
        "Report: o/report.html",
        0,
        slow=True,
    ),
    Case("one document", of_tiny("--limit", "1"), "need at least 3 different documents, 'a' has 1"),
    Case("a field", of_tiny("--text-field", ""), "a.jsonl line 1 has no text field ''"),
    Case("a revision of a folder", asked("--revision", "v1"), "revision is for repositories", 2),
    Case("a file that is not there", asked("--config", "a.toml"), "a.toml cannot be read: No", 2),
    Case(
        "a folder for a file",
        asked("--config", "."),
        "the settings . cannot be read: Is a directory",
        2,
    ),
    Case(
        "bytes for a file",
        asked("--config", "a.toml", a_toml="model = '\0'"),
        "a.toml are not TOML: ",
        2,
    ),
    Case(
        "an unknown key",
        asked("--config", "a.toml", a_toml="ofsets = 2"),
        "the settings a.toml: unknown setting 'ofsets'. Did you mean 'offsets'?",
        2,
    ),
    Case(
        "a key of another type",
        asked("--config", "a.toml", a_toml='offsets = "2"'),
        "the settings a.toml: --offsets must be int, got '2'",
        2,
    ),
    Case(
        "a table for a text",
        asked("--config", "a.toml", a_toml="[text]\nname = 1"),
        "--text must be a list, each text in UTF-8, got {'name': 1}",
        2,
    ),
    Case(
        "a date",
        asked("--config", "a.toml", a_toml="seed = 2026-01-01"),
        "--seed must be int, got datetime.date(2026, 1, 1)",
        2,
    ),
    Case(
        "digits",
        asked("--config", "a.toml", a_toml="seed = " + "9" * 5000),
        "a.toml are not TOML: Exceeds the limit",
        2,
    ),
    Case("a flag", asked("--ofsets", "2"), "No such option: --ofsets", 2),
    Case("a word", asked("words"), "Got unexpected extra argument(s) (words)", 2),
    Case("no value", asked("--offsets"), "Option '--offsets' requires an argument.", 2),
    Case("no epochs", asked("--epochs", "0", command="heads"), "--epochs must be at least 1", 2),
    Case("a kind of heads", asked("--kind", "x", command="heads"), "'x' is not one of 'block'", 2),
    Case(
        "a tree beyond memory",
        asked("--tree", str(10**12), command="draft"),
        "--tree must be numbers of 1 or more, whose product is at most 1024, got 1000000000000",
        2,
    ),
    Case(
        "a temperature",
        asked("--temperature", "nan", command="draft"),
        "--temperature must be a finite number, got nan",
        2,
    ),
    Case("no models", asked(command="sweep"), "say either --family or --models, such as", 2),
    Case("commas", asked("--text", ","), "no text at ,: give a file"),
    Case(
        "a model twice",
        asked("--models", "tiny-s,tiny-s", command="sweep"),
        "a sweep takes each model once, got tiny-s twice",
        2,
    ),
    Case(
        "a ladder", asked("--family", "x", command="sweep"), "family must be one of tiny, tiny", 2
    ),
    Case(
        "a figure",
        asked("figure-9", command="reproduce"),
        "'figure-9' is not one of 'figure-1', 'figure-2', 'table-1'.",
        2,
    ),
    Case("one run", asked("x", command="compare"), "a comparison needs two runs at least, got x"),
)

"""Finished run folders with damaged or foreign files: each refused in one sentence, or harmless."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import probekit
from hostile.cases import Case, answer
from probekit.digests import DIGESTS
from probekit.errors import RunError
from probekit.models.loading import Loaded
from probekit.runs.folder import Run
from probekit.runs.setup import load_model
from support.commands import flags

Damage = Callable[[Path], object]
NOTES = ("model_fingerprint", "fits", "family", "probes")
# Of each file, each at a place of its own.
FLIPS = 20
REPORT, COMPARE, AGAIN = ["report", "run"], ["compare", "run", "other"], ["analyze"]


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(**parts: Any) -> Damage:
    """Return what changes parts of a JSON file; None takes one out."""

    def edit(path: Path) -> None:
        content = {**json.loads(path.read_text()), **parts}
        kept = {name: value for name, value in content.items() if value is not None}
        path.write_text(json.dumps(kept))

    return edit


def replaced(before: str, after: str) -> Damage:
    """Return what replaces the first place that matches in a text file."""
    return lambda path: path.write_text(re.sub(before, after, path.read_text(), count=1))


def table(make: Callable[[pd.DataFrame], pd.DataFrame]) -> Damage:
    return lambda path: make(pd.read_parquet(path)).to_parquet(path)


def holding(text: str) -> Damage:
    return lambda path: path.write_text(text)


SCHEMA_ALONE = holding('{"schema": "probekit.results/4"}')
DEEP = holding("[" * 100_000)
NOT_SAID = "results.json does not hold what schema probekit.results/4 says, at "
AGAIN_WITH = "Write it again: `probekit analyze --config run/run.toml --output run --overwrite`"

# What is done to which file of a folder without digests, as earlier versions left them; the
# command, and what it says.
FOREIGN: tuple[tuple[str, str, Damage, list[str], str], ...] = (
    ("schema alone", "results.json", SCHEMA_ALONE, REPORT, NOT_SAID + "'its top level': 'run' is"),
    ("schema alone, compared", "results.json", SCHEMA_ALONE, COMPARE, NOT_SAID),
    ("schema alone, again", "results.json", SCHEMA_ALONE, AGAIN, NOT_SAID),
    ("no model", "results.json", change(model=None), COMPARE, "'model' is a required property"),
    ("no scores", "results.json", change(scores=[]), REPORT, r"at 'scores': \[\] "),
    ("a null", "results.json", replaced(r'"nats": [\d.]+', '"nats": null'), REPORT, "at 'scores.0"),
    ("a word", "results.json", replaced(r'"nats": [\d.]+', '"nats": "x"'), REPORT, "'x' is not of"),
    ("1e308", "results.json", replaced(r'"nats": [\d.]+', '"nats": 1e308'), COMPARE, "1e308 is no"),
    ("NaN", "results.json", replaced(r'"nats": [\d.]+', '"nats": NaN'), REPORT, "NaN is no number"),
    ("1e999", "results.json", replaced(r'"nats": [\d.]+', '"nats": 1e999'), REPORT, "1e999 is no"),
    ("digits", "results.json", replaced(r'"seed": \d+', '"seed": ' + "9" * 5000), REPORT, "5000 d"),
    ("depth", "results.json", DEEP, REPORT, "results.json is not JSON: maximum recursion"),
    ("depth of passages", "passages.json", DEEP, REPORT, "passages.json is not JSON"),
    ("passages of another shape", "passages.json", change(vocabulary=3), REPORT, "3 is not of typ"),
    ("no sums", "scores.parquet", Path.unlink, COMPARE, "scores.parquet cannot be read as parquet"),
    ("half of the sums", "scores.parquet", half, COMPARE, "scores.parquet cannot be read as parq"),
    (
        "sums without a column", "scores.parquet", table(lambda sums: sums.drop(columns="n")),
        COMPARE, "scores.parquet has no column n",
    ),
    (
        "sums of words", "scores.parquet", table(lambda sums: sums.assign(nats_sum="x")), COMPARE,
        "scores.parquet has values that are no numbers in nats_sum",
    ),
    ("newer settings", "run.toml", replaced("seed", "sead"), AGAIN, "run.toml does not hold sett"),
)  # fmt: skip


@pytest.fixture
def folders(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Return copies of a finished run: `run`, to be damaged, and `other`, to be compared."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "other"):
        shutil.copytree(finished_run.folder, tmp_path / name)
    return tmp_path / "run", tmp_path / "other"


def case(name: str, command: list[str], asked: dict[str, Any], sentence: str) -> Case:
    given = ["analyze", *flags(asked), "--output", "run"] if command == AGAIN else command
    return Case(name, lambda _: given, sentence)


@pytest.mark.parametrize(("name", "file", "damage", "command", "sentence"), FOREIGN)
def test_a_file_of_another_shape_is_refused_in_one_sentence(  # noqa: PLR0917
    folders: tuple[Path, Path], asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], name: str, file: str, damage: Damage, command: list[str],
    sentence: str,
) -> None:  # fmt: skip
    run, _ = folders
    (run / DIGESTS).unlink()
    damage(run / file)
    found = answer(case(name, command, asked, sentence), run.parent, monkeypatch, capsys)
    assert found[0] == 1, found
    assert re.search(sentence, found[1]), found
    assert file == "run.toml" or AGAIN_WITH in found[1]


@pytest.fixture(scope="module")
def loaded(finished_run: Run) -> Loaded:
    return load_model(finished_run.settings)


def probes_of(folder: Path, loaded: Loaded) -> Any:
    probes = probekit.load_probes(folder, loaded).probes.items()
    return [(key, name, x.tolist()) for key, p in probes for name, x in p.tensors.items()]


# What is read again of a finished run, by the file that it is read from.
READ: dict[str, Callable[[Path, Loaded], Any]] = {
    "results.json": lambda folder, _: probekit.load(folder).results,
    "passages.json": lambda folder, _: Run(folder, {}).passages,
    "scores.parquet": lambda folder, _: Run(folder, {}).documents.to_csv(),
    "documents.parquet": lambda folder, _: Run(folder, {}).document_names.to_csv(),
    "run.toml": lambda folder, _: Run(folder, {}).settings,
    "probes.safetensors": probes_of,
}
NEVER_READ = {"report.html", "log.jsonl", "marginal-positions.parquet"}


@pytest.mark.parametrize("file", [*READ, DIGESTS])
def test_no_flipped_byte_changes_a_number(
    finished_run: Run, loaded: Loaded, folders: tuple[Path, Path], file: str
) -> None:
    run, _ = folders
    assert {path.name for path in run.iterdir()} == READ.keys() | NEVER_READ | {DIGESTS}
    chance, whole, detected = random.Random(0), (run / file).read_bytes(), 0
    readers = [READ[file]] if file in READ else list(READ.values())
    expected = [read(finished_run.folder, loaded) for read in readers]
    flips = FLIPS if file in READ else FLIPS // 4
    for _ in range(flips):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (run / file).write_bytes(content)
        try:
            assert [read(run, loaded) for read in readers] == expected
        except RunError:
            detected += 1
    # Of the digests those matter whose files are read.
    assert detected == flips if file in READ else 0 < detected


PROBES: dict[str, Damage] = {
    "half": half,
    "empty": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(b"\0\1junk"),
    "a header beyond the file": lambda path: path.write_bytes(b"\xff" * 7 + path.read_bytes()[7:]),
    "other tensors": lambda path: save_file({"a": torch.zeros(1)}, path),
    "no JSON": lambda path: save_file({}, path, dict.fromkeys(NOTES, "{")),
}


@pytest.mark.parametrize("damage", PROBES.values(), ids=PROBES)
@pytest.mark.parametrize("known", [True, False], ids=["with digests", "without"])
def test_damaged_probes_are_refused(
    folders: tuple[Path, Path], loaded: Loaded, damage: Damage, known: bool
) -> None:
    run, _ = folders
    damage(run / "probes.safetensors")
    if not known:
        (run / DIGESTS).unlink()
    message = "is damaged, or was changed" if known else "cannot be read|holds no probes|another"
    with pytest.raises(RunError, match=rf"probes\.safetensors .*{message}|at .*{message}"):
        probekit.load_probes(run, loaded)

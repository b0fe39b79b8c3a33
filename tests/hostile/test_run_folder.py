"""Finished run folders with damaged or foreign files: each refused in one sentence, or harmless."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import probekit
from probekit.digests import DIGESTS
from probekit.errors import RunError
from probekit.models.loading import Loaded
from probekit.pipelines.analysis.finished import Run
from probekit.runs.setup import load_model

NOTES = ("model_fingerprint", "fits", "family", "probes")
# Of each file, each at a place of its own.
FLIPS = 20


@pytest.fixture
def run(finished_run: Run, tmp_path: Path) -> Path:
    """Return a copy of a finished run, to be damaged."""
    return Path(shutil.copytree(finished_run.folder, tmp_path / "run"))


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
    finished_run: Run, loaded: Loaded, run: Path, file: str
) -> None:
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
    assert detected == flips if file in READ else detected > 0


Damage = Callable[[Path], object]
PROBES: dict[str, Damage] = {
    "half": lambda path: path.write_bytes(path.read_bytes()[:9999]),
    "empty": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(b"\0\1junk"),
    "a header beyond the file": lambda path: path.write_bytes(b"\xff" * 7 + path.read_bytes()[7:]),
    "other tensors": lambda path: save_file({"a": torch.zeros(1)}, path),
    "no JSON": lambda path: save_file({}, path, dict.fromkeys(NOTES, "{")),
}


@pytest.mark.parametrize("damage", PROBES.values(), ids=PROBES)
@pytest.mark.parametrize("known", [True, False], ids=["with digests", "without"])
def test_damaged_probes_are_refused(run: Path, loaded: Loaded, damage: Damage, known: bool) -> None:
    damage(run / "probes.safetensors")
    if not known:
        (run / DIGESTS).unlink()
    message = "is damaged, or was changed" if known else "cannot be read|holds no probes|another"
    with pytest.raises(RunError, match=rf"probes\.safetensors .*{message}|at .*{message}"):
        probekit.load_probes(run, loaded)

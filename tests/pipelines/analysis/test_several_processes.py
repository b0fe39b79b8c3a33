"""An analysis by several processes: the same bits, one message, and any number goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import probekit
from probekit.pipelines.analysis import fits
from probekit.pipelines.analysis.finished import Run
from probekit.runs import ceiling
from support.commands import flags

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# The second process dies, when probes are fitted and scored and the model is marginalized.
PROGRAM = """
import os, signal, sys
sys.path[:0] = {path}
from probekit.cli.main import main
from probekit.pipelines.analysis import learning

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ["RANK"] == "1":
    learning.score_parts = die
main()
"""


def forbid(*_: object, **__: object) -> Any:
    raise AssertionError("this was done already")


@pytest.mark.slow
def test_what_two_processes_finished_is_the_same_bits_and_one_goes_on_from_it(
    finished_run: Run, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "run"
    program.write_text(PROGRAM.format(path=sys.path))
    command = [*TORCHRUN, str(program), "analyze", *flags(asked), "--output", str(folder)]
    died = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert died.returncode == 1
    (message,) = [line for line in died.stderr.splitlines() if line.startswith("probekit: ")]
    assert message.startswith("probekit: another of the 2 processes of this run was killed")
    assert died.stdout.count("  linear-0: ") == 1
    assert not (folder / "results.json").exists()

    monkeypatch.setattr(fits, "fit_probes", forbid)
    monkeypatch.setattr(ceiling, "positions", forbid)
    run = probekit.analyze(**asked, output=folder)
    for name in ("scores.parquet", "marginal-positions.parquet"):
        found, alone = (pd.read_parquet(each.folder / name) for each in (run, finished_run))
        pd.testing.assert_frame_equal(found, alone, check_exact=True)
    tensors, same = (load_file(r.folder / "probes.safetensors") for r in (run, finished_run))
    assert list(tensors) == list(same)
    assert all(torch.equal(tensors[key], same[key]) for key in same)
    results, expected = (json.loads(json.dumps(r.results)) for r in (run, finished_run))
    del results["run"], expected["run"]
    assert results == expected

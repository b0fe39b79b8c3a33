"""A run folder has one writer; it is named to others, and a dead one holds nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probekit.errors import RunError
from probekit.runs.lock import one_writer

HOLD = """
import sys, time
from pathlib import Path
from probekit.runs.lock import one_writer
with one_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path[:0] = {sys.path!r}\n{HOLD}",
        str(folder),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_another_process_is_named_and_its_folder_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held_elsewhere(folder) as process:
        said = rf"process {process.pid} writes into .*run: wait until it ends, or name another"
        with pytest.raises(RunError, match=said), one_writer(folder):
            pass


def test_what_a_killed_process_held_is_free_and_an_ended_run_leaves_no_lock(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with one_writer(tmp_path):
            assert list(tmp_path.iterdir()) == [tmp_path / "lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match=r"the output folder .*file/run cannot be written.*--output"),
        one_writer(tmp_path / "file/run"),
    ):
        pass

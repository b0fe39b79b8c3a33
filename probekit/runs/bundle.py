"""What a report of a bug needs to say of an installation and a run, and no secret of either."""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import torch

from probekit.errors import RunError
from probekit.files import write_text
from probekit.privacy import without_secrets
from probekit.runs.own_files import SETTINGS

# Variables that change how a run goes; the value of no other one is looked at to be shown.
SHOWN = (
    "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "KMP_AFFINITY", "LANG", "LC_ALL", "LOCAL_RANK",
    "LOCAL_WORLD_SIZE", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
    "PYTHONIOENCODING", "PYTHONUTF8", "PYTORCH_CUDA_ALLOC_CONF", "RANK", "TRANSFORMERS_OFFLINE",
    "WORLD_SIZE",
)  # fmt: skip
# Lines of the log of a run that are taken, from its end.
LOG_LINES = 200

Sections = Mapping[str, Iterable[str]]


def about() -> dict[str, list[str]]:
    """Return versions, machine and environment, each as lines under its heading."""
    memory = psutil.virtual_memory()
    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return {
        "Versions": [f"python {platform.python_version()}", *_versions()],
        "Machine": [
            platform.platform(),
            f"{os.cpu_count()} processors, {torch.get_num_threads()} threads of torch",
            f"{memory.total / 2**30:.1f} GiB of memory, {memory.available / 2**30:.1f} free",
            *(devices or ["no CUDA device"]),
        ],
        "Environment": [f"{name}={os.environ[name]}" for name in SHOWN if name in os.environ],
    }


def of_run(folder: Path) -> dict[str, list[str]]:
    """Return the settings, the end of the log and the files of a run folder, finished or not.

    Raises:
        RunError: If there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "Settings of the run": _lines(folder / SETTINGS),
        "Log of the run": _lines(folder / "log.jsonl")[-LOG_LINES:],
        "Files of the run": [
            f"{path.stat().st_size:>12,} {path.relative_to(folder)}" for path in files
        ],
    }


def write(path: Path, sections: Sections) -> None:
    """Write sections as one text, without secrets and without the name of the home folder.

    Raises:
        RunError: If it cannot be written.
    """
    blocks = ["\n".join([f"## {heading}", "", *lines]) for heading, lines in sections.items()]
    write_text(path, without_secrets("\n\n".join(blocks) + "\n").replace(str(Path.home()), "~"))


def _versions() -> list[str]:
    try:
        required = requires("probekit-mtp") or []
    except PackageNotFoundError:
        return ["probekit is not installed"]
    needed = [each for each in required if "extra ==" not in each]
    names = [re.split(r"[^\w.-]", each)[0] for each in needed]
    return [f"{name} {version(name)}" for name in ("probekit-mtp", *names)]


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; of one that is not there, that it is not."""
    if not path.is_file():
        return [f"there is no {path.name}"]
    return path.read_text(encoding="utf-8", errors="replace").splitlines()

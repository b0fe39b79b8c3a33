"""Resolve device and dtype settings against what the machine has."""

import os

import psutil
import torch

from probekit.errors import SettingsError

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
# Words of accelerate for a model that does not fit on one device.
SPREAD = ("balanced", "sequential")


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device; of a machine's own, the share of this process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available) // processes_here()


def processes_here() -> int:
    """Return how many processes of one run a launcher started on this machine, as it says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def resolve_device(device: str) -> str:
    """Return a device of torch or a word of accelerate; `auto` takes this process's own."""
    if device in SPREAD:
        return device
    if device == "auto":
        if torch.cuda.is_available():
            return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        return "cpu"
    if device.startswith("mps"):
        raise SettingsError("device mps has no float64, in which sums are taken; use cpu or cuda")
    try:
        torch.empty(1, device=device).item()  # of `meta` there are no values
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise SettingsError(
            f"device must be auto, {', '.join(SPREAD)} or one that torch has here (CUDA: "
            f"{torch.cuda.device_count()} devices), got {device!r}"
        ) from error
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """Return the dtype to load; `auto` is float32 on a CPU, else the checkpoint's own."""
    if dtype not in DTYPES:
        raise SettingsError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    on_cpu = device == "cpu" or (device in SPREAD and not torch.cuda.is_available())
    return "float32" if dtype == "auto" and on_cpu else dtype

"""What all tests share: two threads, no network, and tiny models.

Nothing here imports probekit at the top: the hook that checks shapes is installed later.
"""

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def pytest_configure() -> None:
    """Set what torch and the Hub read once, at their import, here and in subprocesses."""
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose machine is not this one, and say so."""
    # Where CI is set a missing browser is a failure, not a reason to skip.
    missing = shutil.which("chromium") is None and "CI" not in os.environ
    if item.get_closest_marker("browser") and missing:
        pytest.skip("needs Debian's chromium")
    if item.get_closest_marker("gpu") and not _has_gpu():
        pytest.skip("needs an accelerator")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def tiny_llama() -> "PreTrainedModel":
    """Return a random Llama of three blocks, float32, to be read and never changed."""
    from architectures import build

    return build("llama")

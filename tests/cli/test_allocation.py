"""What the allocator keeps of freed memory."""

import subprocess
import sys

import pytest

TOUCHED = """
import resource
import numpy as np
from probekit.cli.allocation import keep_freed_buffers
{first}
for _ in range(9):
    np.ones(8_000_000)  # 64 MB, freed at once
    if _ == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_freed_buffers_are_not_mapped_anew() -> None:
    mapped, kept = (
        int(subprocess.check_output([sys.executable, "-c", TOUCHED.format(first=first)]))
        for first in ("", "keep_freed_buffers()")
    )
    assert mapped > 8 * 8_000_000 * 8 / 2**21  # pages of 2 MiB at most
    assert kept < mapped / 20

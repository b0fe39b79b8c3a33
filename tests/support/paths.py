"""Where the repository is, for tests that read its files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What stands in no page that is kept: folders of the machine that made it.
OF_A_MACHINE = ("/home/", "/root/", "/tmp/", "file://", str(ROOT))

"""The packages of the library in their order, and its modules."""

from pathlib import Path

from support.paths import ROOT

# The storeys, in order: a package imports only packages of storeys before its own.
STOREYS: tuple[tuple[str, ...], ...] = (
    ("data", "models"),
    ("activations",),
    ("scoring",),
    ("probes", "marginalization"),
    ("heads", "causal"),
    ("drafting",),
    ("runs", "paper"),
    ("reports",),
    ("pipelines",),
    ("cli",),
)

# What any package may import, and which import no package.
WORDS = {
    "errors", "shapes", "checks", "fields", "settings", "toml", "readout", "files", "privacy",
    "provenance", "progress", "digests", "tensor_files", "hub",
}  # fmt: skip

LIBRARY = ROOT / "probekit"
PACKAGES = [package for storey in STOREYS for package in storey]


def modules(folder: Path = LIBRARY) -> dict[str, Path]:
    """Return the files of a folder and those below by dotted name."""
    files = sorted(folder.rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}

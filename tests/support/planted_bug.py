"""What a planted bug is."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutation:
    """A bug.

    Attributes:
        name: What is wrong, in words.
        module: Where, by its dotted name.
        old: Text that occurs there once.
        new: What is planted in its place.
        tests: Node ids of the tests of which one at least must fail.
    """

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]

    def path(self, root: Path) -> Path:
        """Return the module's file in the checkout at `root`."""
        return root / f"{self.module.replace('.', '/')}.py"

"""Short names of models and the families (ladders) they make, from models.toml."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from probekit.errors import SettingsError

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A model with a short name: one entry of models.toml.

    Attributes:
        name: The short name.
        family: The ladder it is a rung of.
        parameters: Number of parameters, tied weights once.
        repository: On the Hub; None for a built-in model.
        folder: Name of the folder of a built-in model; None for others.
        gated: Whether the Hub asks to accept a licence first.
        revision: The commit or tag it is pinned to, or None.
        aliases: Other short names.
    """

    name: str
    family: str
    parameters: int
    repository: str | None = None
    folder: str | None = None
    gated: bool = False
    revision: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def bundled(self) -> Path | None:
        """The folder of a built-in model inside the package; None for others."""
        return None if self.folder is None else HERE / "bundled" / self.folder


@cache
def entries() -> tuple[Entry, ...]:
    """Return the models that have a short name, family by family, smallest first.

    >>> [model.name for model in entries() if model.family == "tiny"]
    ['tiny-s', 'tiny-m', 'tiny-l']
    """
    rows = tomllib.loads((HERE / "models.toml").read_text(encoding="utf-8"))["model"]
    models = [Entry(**row | {"aliases": tuple(row.get("aliases", ()))}) for row in rows]
    order = list(dict.fromkeys(model.family for model in models))
    return tuple(sorted(models, key=lambda model: (order.index(model.family), model.parameters)))


def family(name: str) -> tuple[Entry, ...]:
    """Return the ladder called `name`, smallest model first.

    Raises:
        SettingsError: If there is no such family.

    >>> [model.name for model in family("olmo-2")]
    ['olmo-2-1b', 'olmo-2-7b', 'olmo-2-13b']
    """
    ladder = tuple(model for model in entries() if model.family == name)
    if not ladder:
        families = dict.fromkeys(model.family for model in entries())
        raise SettingsError(f"family must be one of {', '.join(families)}, got {name!r}")
    return ladder

"""Find where a named model is: built in, a folder, or a repository of the Hub within reach."""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HTTPError,  # of httpx or of httpx2, whichever the Hub uses
    RepositoryNotFoundError,
)

from probekit.errors import ModelError, SettingsError, UnreachableError
from probekit.models.catalogue import Entry, entries

Origin = Literal["bundled", "folder", "hub", "python"]

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelLocation:
    """Where to load a model from.

    Attributes:
        name: What to call the model.
        path: The folder, or `owner/name` on the Hub.
        source: `bundled`, `folder`, `hub`, or `python` for an object.
        revision: Branch, tag or commit on the Hub, or None.
        entry: Its entry in models.toml, if it has one.
        local: Whether to keep off the network: a folder, or a repository that is cached
            while the Hub is out of reach.
    """

    name: str
    path: str
    source: Origin
    revision: str | None = None
    entry: Entry | None = None
    local: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` for this location."""
        return {"revision": self.revision, "local_files_only": self.local}


def find_location(name: str, revision: str | None) -> ModelLocation:
    """Find the model called `name`.

    Raises:
        SettingsError: If a revision is asked of a folder.
        ModelError: If there is no such model, or its folder lacks files.
        UnreachableError: If its repository is gated or out of reach.
    """
    for model in entries():
        if name in (model.name, *model.aliases):
            return _listed_location(model, revision)
    if Path(name).expanduser().is_dir():
        _require_no_revision(name, revision)
        return _folder_location(name, Path(name).expanduser(), "folder")
    if REPOSITORY.fullmatch(name) and not name.startswith("."):
        return _hub_location(ModelLocation(name, name, "hub", revision), gated=False)
    raise ModelError(_no_such_model(name))


def _no_such_model(name: str) -> str:
    names = [word for model in entries() for word in (model.name, *model.aliases)]
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"there is no model called {name!r}: {hint}A model is a short name (`probekit models` "
        "lists them), a Hub repository (owner/name) or an existing folder"
    )


def _listed_location(model: Entry, revision: str | None) -> ModelLocation:
    if model.bundled is not None:
        _require_no_revision(model.name, revision)
        return replace(_folder_location(model.name, model.bundled, "bundled"), entry=model)
    assert model.repository is not None
    revision = revision or model.revision
    location = ModelLocation(model.name, model.repository, "hub", revision, model)
    return _hub_location(location, gated=model.gated)


def _require_no_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise SettingsError(
            f"revision is for repositories of the Hub; {name} is a folder, got {revision!r}"
        )


def _folder_location(name: str, folder: Path, source: Origin) -> ModelLocation:
    if not folder.is_dir():
        raise ModelError(
            f"the built-in model {name} is not in this installation ({folder}); install "
            "probekit again, or name another model"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json, so it is no model folder; name the folder that "
            "save_pretrained() wrote"
        )
    weights = [path for kind in ("safetensors", "bin") for path in folder.glob(f"*.{kind}")]
    if not weights:
        raise ModelError(
            f"{folder} has a config.json but no weights (*.safetensors or *.bin); copy them there"
        )
    return ModelLocation(name, str(folder), source)


def _hub_location(location: ModelLocation, *, gated: bool) -> ModelLocation:
    """Ask the Hub whether we may; where it cannot be asked, fall back on its cached files."""
    try:
        HfApi().auth_check(location.path)
    except GatedRepoError as error:
        raise UnreachableError(
            _ways_out(location, "gated: its owner asks for a licence")
        ) from error
    except RepositoryNotFoundError as error:
        raise UnreachableError(_ways_out(location, "not on the Hub, or private")) from error
    except (HTTPError, OSError) as error:
        if not _cached(location):
            why = f"out of reach from here ({error})" + (", and gated" if gated else "")
            raise UnreachableError(_ways_out(location, why)) from error
        return location
    return replace(location, local=False)


def _cached(location: ModelLocation) -> bool:
    path = try_to_load_from_cache(location.path, "config.json", revision=location.revision)
    return isinstance(path, str)


def _ways_out(location: ModelLocation, why: str) -> str:
    return (
        f"{location.path} is {why}. Ways out: accept its licence on huggingface.co if it has one "
        "and log in with `hf auth login` (or set HF_TOKEN); name an ungated mirror; name a "
        "local folder that holds the model; or take the built-in `tiny`"
    )

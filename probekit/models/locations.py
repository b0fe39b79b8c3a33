"""Find where a named model is: built in, a folder, or a repository of the Hub within reach."""

import difflib
import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants, get_session, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HFValidationError,
    HTTPError,  # of httpx or of httpx2, whichever the Hub uses
    RepositoryNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    validate_repo_id,
)

from probekit.errors import ModelError, SettingsError, UnreachableError
from probekit.models import adapters
from probekit.models.catalogue import Entry, entries

Origin = Literal["bundled", "folder", "hub", "python"]

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
GGUF = ".gguf"
COMMIT = re.compile(r"[0-9a-f]{40}")
# Seconds until the Hub counts as out of reach: fewer where the model is here already.
PATIENCE, PATIENCE_WHERE_CACHED = 30, 3


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
        adapter: Folder of an adapter of peft that stands on this model, or None.
        gguf: Name of the file of gguf in the folder, or None.
    """

    name: str
    path: str
    source: Origin
    revision: str | None = None
    entry: Entry | None = None
    local: bool = True
    adapter: str | None = None
    gguf: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` for this location."""
        found = {"revision": self.revision, "local_files_only": self.local}
        return found if self.gguf is None else {**found, "gguf_file": self.gguf}


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
    folder = _folder(name)
    if folder is not None and folder.is_dir():
        if _is_adapter(folder):
            return _adapter_location(name, folder, revision)
        _require_no_revision(name, revision)
        return _folder_location(name, folder, "folder")
    file = Path(name)
    if file.suffix == GGUF and file.is_file():
        _require_no_revision(name, revision)
        return _gguf_location(name, file)
    if _is_repository(name):
        return _hub_location(ModelLocation(name, name, "hub", revision), gated=False)
    raise ModelError(_no_such_model(name, folder))


def at_commit(location: ModelLocation) -> ModelLocation:
    """Return a location of the Hub at the commit whose configuration was just loaded.

    All that is loaded after it is then of one commit, and a run can name it.
    """
    if location.source != "hub":
        return location
    path = try_to_load_from_cache(location.path, "config.json", revision=location.revision)
    commit = Path(path).parent.name if isinstance(path, str) else ""
    return replace(location, revision=commit) if COMMIT.fullmatch(commit) else location


def _folder(name: str) -> Path | None:
    """Return the path that a name would be of, if it can be one and not a short name."""
    if not name:  # to pathlib, the working folder
        return None
    try:
        path = Path(name).expanduser()
        path.is_dir()
    except (OSError, RuntimeError, ValueError):  # too long, of an unknown user, with a NUL
        return None
    return path if "/" in name or name.startswith("~") or path.is_dir() else None


def _is_repository(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return REPOSITORY.fullmatch(name) is not None and not name.startswith(".")


def _no_such_model(name: str, folder: Path | None) -> str:
    names = [word for model in entries() for word in (model.name, *model.aliases)]
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    hint = f"{_no_folder(folder)}. " if folder is not None else hint
    return (
        f"there is no model called {name!r}: {hint}A model is a short name (`probekit models` "
        "lists them), a Hub repository (owner/name), an existing folder or a file of gguf"
    )


def _no_folder(folder: Path) -> str:
    """Say that there is no such folder, and which one near it there is."""
    where = next(parent for parent in folder.parents if parent.is_dir())
    missing = folder.relative_to(where).parts[0]
    there = [path.name for path in where.iterdir() if path.is_dir()]
    near = difflib.get_close_matches(missing, there, n=3, cutoff=0.5)
    hint = f", but there is {' and '.join(str(where / each) for each in near)}" if near else ""
    return f"There is no folder {folder} here{hint}"


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
        files = sorted(folder.glob(f"*{GGUF}"))
        way_out = f"the file, {files[0]}" if files else "the folder that save_pretrained() wrote"
        raise ModelError(f"{folder} has no config.json, so it is no model folder; name {way_out}")
    weights = [path for kind in ("safetensors", "bin") for path in folder.glob(f"*.{kind}")]
    if not weights:
        raise ModelError(
            f"{folder} has a config.json but no weights (*.safetensors or *.bin); copy them there"
        )
    return ModelLocation(name, str(folder), source)


def _adapter_location(name: str, folder: Path, revision: str | None) -> ModelLocation:
    """Return the location of the model that an adapter stands on, with it."""
    base, its_revision = adapters.base_of(folder)
    under = _folder(base)
    if under is not None and _is_adapter(under):
        raise ModelError(
            f"{folder} holds an adapter on an adapter, {base}: merge that into its model first"
        )
    location = find_location(base, revision or its_revision)
    return replace(location, name=name, adapter=str(folder))


def _is_adapter(folder: Path) -> bool:
    return (folder / adapters.FILE).is_file() and not (folder / "config.json").is_file()


def _gguf_location(name: str, file: Path) -> ModelLocation:
    if find_spec("gguf") is None:
        raise ModelError(f"{file} needs one more package to be read: pip install gguf")
    return ModelLocation(name, str(file.absolute().parent), "folder", gguf=file.name)


def _hub_location(location: ModelLocation, *, gated: bool) -> ModelLocation:
    """Ask the Hub whether we may; where it cannot be asked, fall back on its cached files."""
    cached = _cached(location)
    try:
        _ask_whether_we_may(location, PATIENCE_WHERE_CACHED if cached else PATIENCE)
    except GatedRepoError as error:
        raise UnreachableError(
            _ways_out(location, "gated: its owner asks for a licence")
        ) from error
    except RepositoryNotFoundError as error:
        raise UnreachableError(_ways_out(location, "not on the Hub, or private")) from error
    except (HTTPError, OSError) as error:
        if not cached:
            why = f"out of reach from here ({error})" + (", and gated" if gated else "")
            raise UnreachableError(_ways_out(location, why)) from error
        return location
    return replace(location, local=False)


def _ask_whether_we_may(location: ModelLocation, seconds: int) -> None:
    """Do what `HfApi.auth_check` does, which would wait for as long as the network lets it."""
    url = f"{constants.ENDPOINT}/api/models/{location.path}/auth-check"
    hf_raise_for_status(get_session().get(url, headers=build_hf_headers(), timeout=seconds))


def _cached(location: ModelLocation) -> bool:
    path = try_to_load_from_cache(location.path, "config.json", revision=location.revision)
    return isinstance(path, str)


def _ways_out(location: ModelLocation, why: str) -> str:
    return (
        f"{location.path} is {why}. {_no_folder(Path(location.path))}. Ways out: accept its "
        "licence on huggingface.co if it has one and log in with `hf auth login` (or set "
        "HF_TOKEN); name an ungated mirror; name a local folder that holds the model; or take the "
        "built-in `tiny`"
    )

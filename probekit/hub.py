"""Runs on the Hub: hub:owner/name[@revision] stands wherever a finished run is read."""

from pathlib import Path

from probekit.errors import RunError
from probekit.privacy import without_secrets

PREFIX = "hub:"
# What is fetched of a repository: what a run folder holds, and nothing else that may lie there.
OF_RUNS = ("*.json", "*.parquet", "*.safetensors", "run.toml", "run.sha256", "report.html")


def local(run: str | Path) -> Path:
    """Return the folder of a run; one on the Hub is fetched first, each file of it once.

    Raises:
        RunError: If there is no such repository or revision, or it is out of reach.
    """
    address = str(run)
    if not address.startswith(PREFIX):
        return Path(run)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # of httpx or of httpx2, whichever the Hub uses
    )

    repository, _, revision = address.removeprefix(PREFIX).partition("@")
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=[*OF_RUNS])
    except (HFValidationError, HfHubHTTPError, HTTPError, OSError) as error:
        raise RunError(
            f"{address} cannot be fetched: {first_line(error)}. It takes {PREFIX}owner/name or "
            f"{PREFIX}owner/name@revision; a private one takes `hf auth login` first"
        ) from None
    return Path(folder)


def first_line(error: Exception) -> str:
    """Return the first line of what the Hub answered, without secrets."""
    return without_secrets(str(error).strip().partition("\n")[0].rstrip("."))


def name_of(folder: Path) -> str | None:
    """Return the owner/name of a folder that was fetched from the Hub; None of any other.

    >>> name_of(Path("runs/tiny"))
    """
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    if not folder.is_relative_to(cache):
        return None
    return folder.relative_to(cache).parts[0].partition("--")[2].replace("--", "/")

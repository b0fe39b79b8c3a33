"""Write the Medusa heads of a finished study for a serving engine."""

from pathlib import Path

from probekit.errors import RunError, SettingsError
from probekit.heads import files as head_files
from probekit.heads.export import export_medusa, require_served
from probekit.heads.heads import build
from probekit.models import loading
from probekit.models.anatomy import find_anatomy
from probekit.models.loading import Loaded
from probekit.pipelines.head_study.settings import FROZEN, HeadSettings
from probekit.pipelines.head_study.study_heads import load
from probekit.runs.folder import read_settings
from probekit.runs.own_files import SETTINGS
from probekit.runs.setup import load_model


def require_exportable(loaded: Loaded, settings: HeadSettings) -> None:
    """Raise a SettingsError, before anything is trained, unless its heads could be exported."""
    if FROZEN not in settings.strategies:
        raise SettingsError(
            f"exported heads are those of the strategy {FROZEN}, which leaves the model as an "
            f"engine has it; got {', '.join(settings.strategies)}"
        )
    anatomy, offsets = find_anatomy(loaded.model), range(1, settings.offsets + 1)
    own = settings.own_unembedding
    heads = build(settings.kind, anatomy, offsets, read=settings.read, own_unembedding=own)
    require_served(heads, anatomy)


def export_heads(folder: str | Path, destination: str | Path, loaded: Loaded | None = None) -> Path:
    """Write the heads that a study trained on the frozen model, as vLLM reads Medusa heads.

    Args:
        folder: The run folder of the study.
        destination: Folder for config.json and model.safetensors.
        loaded: The model that was studied; loaded again if not given.

    Returns:
        The folder that was written.

    Raises:
        RunError: If the study trained no heads on the frozen model, or on another one.
        SettingsError: If an engine could not run them; the message says why.
    """
    finished, destination = load(folder), Path(destination)
    path = finished.folder / f"heads-{FROZEN}.safetensors"
    if not path.exists():
        raise RunError(
            f"{folder} has no heads of the strategy {FROZEN}, the one that leaves the model as an "
            f"engine has it; train them: `probekit heads --strategy {FROZEN}`"
        )
    loaded = loaded or load_model(read_settings(finished.folder / SETTINGS, HeadSettings))
    anatomy = find_anatomy(loaded.model)
    heads = head_files.load(path, anatomy, loading.fingerprint(loaded))
    export_medusa(heads, anatomy, destination)
    return destination

"""Put a finished run on the Hub, with a card that says what it found.

upload = push.gather("runs/tiny", "owner/name")     what would go up
url = push.push(upload, private=True)
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from probekit import digests, hub
from probekit.errors import RunError
from probekit.pipelines.publishing.card import FIGURE, card
from probekit.pipelines.publishing.read_job import read_job
from probekit.reports import lead_figure

PASSAGES = "passages.json"
CARD, PAGE = "README.md", "report.html"


@dataclass(frozen=True)
class Upload:
    """What goes into a repository.

    Attributes:
        repository: The owner/name.
        files: Content of each file by its name, or where it lies.
        notes: What the reader of a plan must know of what they hold.
    """

    repository: str
    files: Mapping[str, bytes | Path]
    notes: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The plan: each file and its size, the whole size, and what to think of before."""
        sizes = {
            name: file.stat().st_size if isinstance(file, Path) else len(file)
            for name, file in self.files.items()
        }
        rows = [f"{size:>13,}  {name}" for name, size in sorted(sizes.items())]
        whole = f"{sum(sizes.values()):,} bytes in {len(sizes)} files for {self.repository}"
        return [*rows, whole, *self.notes]


def gather(folder: str | Path, repository: str, with_passages: bool = True) -> Upload:
    """Return what of a run folder goes into a repository: what run.sha256 names, page and card.

    Args:
        folder: The folder of a finished run, study of heads or measured draft.
        repository: Where it goes: owner/name.
        with_passages: Whether passages of the text go too.

    Raises:
        RunError: If it holds nothing finished, a file is damaged, or passages cannot be left out.
    """
    folder = Path(folder)
    names = _named(folder)
    if not with_passages and "draft.json" in names:
        raise RunError(
            f"{folder} is a measured draft, whose draft.json holds continuations of the text: it "
            "cannot go up without passages"
        )
    document, page = read_job(folder, with_passages)
    kept = [name for name in names if with_passages or name != PASSAGES]
    files: dict[str, bytes | Path] = {
        name: digests.require_undamaged(folder / name) for name in kept
    }
    files |= {digests.DIGESTS: _digests(folder, kept), PAGE: page.encode()}
    figure = lead_figure(document)
    if figure is not None:
        files[FIGURE] = figure
    files[CARD] = card(document, repository, figure is not None).encode()
    notes = ["The files name model and texts as they were given, paths of this machine included."]
    if PASSAGES in kept:
        notes.append(f"{PASSAGES} and {PAGE} hold passages of the text: see --without-passages.")
    if "draft.json" in names:
        notes.append("draft.json and report.html hold continuations of the text.")
    return Upload(repository, files, tuple(notes))


def push(upload: Upload, private: bool = False) -> str:
    """Make the repository, if it is not there, put everything into it, and return its address.

    Raises:
        RunError: If the Hub refuses or is out of reach.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # of httpx or of httpx2, whichever the Hub uses
        LocalTokenNotFoundError,
    )

    api, repository = HfApi(library_name="probekit"), upload.repository
    operations = [CommitOperationAdd(name, file) for name, file in sorted(upload.files.items())]
    try:
        made = api.create_repo(repository, private=private or None, exist_ok=True)
        with warnings.catch_warnings():
            # Scores are data files, and this is no repository of a data set all the same.
            warnings.simplefilter("ignore", UserWarning)
            api.create_commit(repository, operations, commit_message="Upload a run of probekit")
    except (
        HFValidationError,
        HfHubHTTPError,
        HTTPError,
        LocalTokenNotFoundError,
        OSError,
    ) as error:
        raise RunError(
            f"nothing was put into {repository}: {hub.first_line(error)}. It takes owner/name, and "
            "`hf auth login` with a token that may write there"
        ) from None
    return str(made)


def _named(folder: Path) -> list[str]:
    """Return the names in run.sha256, which a run writes when it is finished."""
    path = folder / digests.DIGESTS
    if not path.is_file():
        raise RunError(
            f"{folder} holds no finished run with a {digests.DIGESTS}: name the folder of a "
            "finished analysis, study of heads or measured draft"
        )
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [Path(line.partition("  ")[2]).name for line in lines if "  " in line]


def _digests(folder: Path, names: list[str]) -> bytes:
    lines = (folder / digests.DIGESTS).read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("  ")[2] in names]
    return "".join(f"{line}\n" for line in kept).encode()

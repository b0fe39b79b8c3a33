"""What a file or folder is by its name: rows, plain text, or what is not read.

rows    .jsonl .ndjson .jsonlines .jl, also compressed (.gz .zst), and .parquet, in any case
plain   any other name, but for those of other formats, of which each is told the way out

All files of a folder are of one of the two, and all of its rows are one text.
"""

from pathlib import Path
from typing import Literal

from probekit.errors import DataError

Kind = Literal["lines", "table", "plain"]

LINES = {".jsonl", ".ndjson", ".jsonlines", ".jl"}
TABLE = ".parquet"
# The names by which pyarrow knows what compresses lines.
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
UNPACKED_BY = {
    ".gz": "gunzip", ".zst": "unzstd", ".xz": "unxz", ".bz2": "bunzip2", ".zip": "unzip",
    ".7z": "7z x", ".tar": "tar xf", ".tgz": "tar xf",
}  # fmt: skip
TO_LINES = "pandas.{reader}.to_json('rows.jsonl', orient='records', lines=True)"
TO_ROWS = {
    ".csv": TO_LINES.format(reader="read_csv({path!r})"),
    ".tsv": TO_LINES.format(reader=r"read_csv({path!r}, sep='\t')"),
    ".json": TO_LINES.format(reader="read_json({path!r})")
    + "; if each of its lines is an object already, name it .jsonl",
    ".arrow": "datasets.Dataset.from_file({path!r}).to_parquet('rows.parquet')",
}
# What `datasets` writes beside the rows of a data set, or of several.
SAVED = {"state.json": "", "dataset_dict.json": "['train']"}


def path_of(location: str) -> Path:
    """Return the path of a location, which is there.

    Raises:
        DataError: If nothing is, or it cannot be looked at.
    """
    try:
        path = Path(location).expanduser()
        if path.is_dir() or path.is_file():
            return path
    except RuntimeError:  # ~nobody
        raise DataError(f"no text at {location}: there is no such user's folder") from None
    except OSError as error:
        raise DataError(f"the text {location} cannot be read: {error.strerror}") from None
    raise DataError(
        f"no text at {location}: give a file (.txt, .jsonl, .parquet, ...), a folder of such "
        "files, hub:REPOSITORY[@CONFIG][:SPLIT] or preset:NAME"
    )


def files(path: Path) -> list[tuple[str, Path]]:
    """Return a file, or those of a folder that are not hidden, in order of their names.

    Returns:
        Names and paths; a name is the file's in its folder, and empty for a single file.

    Raises:
        DataError: If there is none, or one is of a format that is not read.
    """
    if path.is_file():
        kind(path)
        return [("", path)]
    for mark, of_several in SAVED.items():
        if (path / mark).is_file():
            raise DataError(
                f"{path} is a data set that `datasets` saved: make rows of it, in Python, with "
                f"datasets.load_from_disk({str(path)!r}){of_several}.to_parquet('rows.parquet')"
            )
    inside = sorted(each.relative_to(path) for each in path.rglob("*") if each.is_file())
    found = [each for each in inside if not any(part.startswith(".") for part in each.parts)]
    if not found:
        raise DataError(f"the folder {path} holds no files")
    _require_one_kind(path, found)
    return [(str(each), path / each) for each in found]


def kind(path: Path) -> Kind:
    """Return what a file is by its name.

    >>> kind(Path("a.JSONL")), kind(Path("a.jsonl.gz")), kind(Path("a.parquet")), kind(Path("a"))
    ('lines', 'lines', 'table', 'plain')

    Raises:
        DataError: If it is of a format that is not read.
    """
    *_, inner, last = ["", "", *(suffix.lower() for suffix in path.suffixes)]
    if last in LINES or (last in COMPRESSED and inner in LINES):
        return "lines"
    if last in UNPACKED_BY:
        raise DataError(
            f"{path} is packed: unpack it first, with {UNPACKED_BY[last]} (of compressed files "
            ".jsonl.gz and .jsonl.zst alone are read as they are)"
        )
    if last in TO_ROWS:
        raise DataError(
            f"{path} holds rows in a format that is not read ({last}): make lines of JSON or "
            f"parquet of them, in Python, with {TO_ROWS[last].format(path=str(path))}"
        )
    return "table" if last == TABLE else "plain"


def stem(path: Path) -> str:
    """Return the name of a file without what tells its kind.

    >>> stem(Path("d/a.b.jsonl.gz")), stem(Path("d/a.b.txt"))
    ('a.b', 'a.b')
    """
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED else path.stem


def _require_one_kind(folder: Path, names: list[Path]) -> None:
    plain = [name for name in names if kind(folder / name) == "plain"]
    rows = [name for name in names if name not in set(plain)]
    if plain and rows:
        raise DataError(
            f"{folder} holds rows ({rows[0]}, {len(rows):,} files) beside plain text ({plain[0]}, "
            f"{len(plain):,}): they are read differently, so give each kind a folder of its own"
        )

"""Arguments of a call from Python: as Python has them, as settings, and in words of Python."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, get_args, get_origin

import pandas as pd
from transformers import PreTrainedTokenizerBase

from probekit.data.dataset import CHARACTERS, CHARACTERS_A_TOKEN
from probekit.data.formats import given
from probekit.errors import ProbekitError, SettingsError
from probekit.fields import flag, kinds
from probekit.models.as_found import Model, borrowed
from probekit.models.loading import Loaded
from probekit.settings import RunSettings

_FLAG = re.compile(r"--(no-)?([a-z][a-z0-9-]*)(?: ([A-Z]+)=([A-Z]+)| (-?\d[\d.,]*\b)| (\w+))?")
_QUOTED = re.compile(r"(`[^`]*`)")
_SWITCHES = ("overwrite", "figures")


@contextmanager
def in_python(
    record: type[RunSettings],
    model: Model,
    tokenizer: PreTrainedTokenizerBase | None,
    settings: Mapping[str, Any],
) -> Iterator[tuple[dict[str, Any], Loaded | None]]:
    """Take model and settings of a call, for as long as the context lasts; see `borrowed`.

    Args:
        record: The settings that the call has.
        model: A name, a folder or an object.
        tokenizer: The tokenizer of a model given as an object.
        settings: All other settings, texts as `located` takes them and one value for a list.

    Raises:
        ProbekitError: Whatever is raised inside, its message in words of Python.
    """
    with (
        speaking_python(record),
        borrowed(model, tokenizer, as_settings(record, settings)) as (found, loaded),
    ):
        yield found, loaded


@contextmanager
def speaking_python(record: type[RunSettings]) -> Iterator[None]:
    """Let errors speak of arguments instead of flags.

    Raises:
        ProbekitError: What is raised inside, its message in words of Python.
    """
    try:
        yield
    except ProbekitError as error:
        error.args = (in_words_of_python(str(error), record),)
        raise


def in_words_of_python(message: str, record: type[RunSettings]) -> str:
    """Return a message that speaks of arguments instead of flags; commands are left as they are.

    >>> in_words_of_python("--layers must be 0, or replace it with --overwrite", RunSettings)
    'layers must be 0, or replace it with overwrite=True'
    >>> in_words_of_python("`probekit a --block 3` with --block 3 or --text NAME=PATH", RunSettings)
    '`probekit a --block 3` with block=3 or text={NAME: PATH}'
    >>> in_words_of_python("Use --dtype float32 or --no-trust-remote-code", RunSettings)
    "Use dtype='float32' or trust_remote_code=False"
    """
    fields = {flag(field): field for field in dataclasses.fields(record)}

    def argument(found: re.Match[str]) -> str:
        no, name, key, value, number, word = found.groups()
        field = fields.get(f"--{name}")
        called = field.name if field else name.replace("-", "_")
        types = kinds(field.type) if field else ()
        words = [each for kind in types for each in get_args(kind)]
        rest = f" {word}" if word else ""
        if bool in types or called in _SWITCHES:
            return f"{called}={not no}{rest}"
        if key:
            return f"{called}={{{key}: {value}}}"
        if number:
            return f"{called}={number}"
        return f"{called}={word!r}" if word in words else f"{called}{rest}"

    parts = _QUOTED.split(message)
    return "".join(p if p.startswith("`") else _FLAG.sub(argument, p) for p in parts)


def as_settings(record: type[RunSettings], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a file of them would hold them.

    Args:
        record: The settings that the call has.
        settings: By name: one value may stand for a list of one, and any sequence for a list;
            texts are as `located` takes them.

    >>> as_settings(RunSettings, {"offsets": 3, "text": Path("a.jsonl")})
    {'offsets': 3, 'text': ('a.jsonl',)}
    """
    made = dict(settings)
    for field in dataclasses.fields(record):
        if made.get(field.name) is not None and field.name != "text":
            made[field.name] = _listed(made[field.name], field.type)
    if made.get("text") is not None:
        most = max(CHARACTERS, CHARACTERS_A_TOKEN * (made.get("max_tokens") or 0))
        made["text"] = located(made["text"], made.get("text_field", record.text_field), most)
    return made


def _listed(value: Any, annotation: Any) -> Any:
    """Return a list of one for a value where a list is meant, and a list for a range or array."""
    inner = [get_args(kind)[0] for kind in kinds(annotation) if get_origin(kind) is tuple]
    words = [word for kind in kinds(annotation) if kind not in inner for word in get_args(kind)]
    if not inner or (isinstance(value, str) and value in words):
        return value
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(value) if isinstance(value, (list, tuple, range, set)) else (value,)


def located(text: Any, field: str, most: int = CHARACTERS) -> tuple[str, ...]:
    """Return texts as settings name them: by their place, or by the digest of what is given.

    Args:
        text: A path; a list of paths; texts by name, each a path, a list of documents or rows;
            or a pandas Series, a DataFrame or a data set of `datasets`.
        field: Name of the text in a row.
        most: Characters that are taken of what is given.

    Raises:
        SettingsError: If it is none of these, or a list of documents has no name.
        DataError: If what is given holds neither documents nor rows.

    >>> located("a.jsonl", "text"), located({"mine": "a.jsonl"}, "text")
    (('a.jsonl',), ('mine=a.jsonl',))
    """
    if type(text).__name__.endswith("DatasetDict"):
        split = next(iter(text), "train")
        raise SettingsError(f"text must be one split of {list(text)}, such as text=data[{split!r}]")
    if isinstance(text, (str, PathLike)):
        return (fspath(text),)
    if isinstance(text, Mapping):
        return tuple(f"{_name(name)}={_place(value, field, most)}" for name, value in text.items())
    if isinstance(text, (list, tuple)) and all(isinstance(x, (str, PathLike)) for x in text):
        return tuple(_path(each) for each in text)
    return (f"text={_place(text, field, most)}",)


def _place(value: Any, field: str, most: int) -> str:
    if isinstance(value, (str, PathLike)):
        return fspath(value)
    rows = value.to_dict("records") if isinstance(value, pd.DataFrame) else value
    if not isinstance(rows, Iterable) or isinstance(rows, Mapping):
        raise SettingsError(
            "text must be a path, a list of paths, documents or rows by name, a pandas Series or "
            f"DataFrame, or a data set, got a {type(value).__name__}"
        )
    return given.keep(rows, field, most)


def _name(name: object) -> str:
    if not isinstance(name, str) or not name or "=" in name:
        raise SettingsError(f"the name of a text must be a word without '=', got {name!r}")
    return name


def _path(entry: str | PathLike[str]) -> str:
    """Return an entry of a list of paths, if it can be one and not a document."""
    path = fspath(entry)
    if ("\n" in path or len(path) > 255 or " " in path) and not _exists(path.rpartition("=")[2]):
        raise SettingsError(
            f"a list holds paths, and {path[:40]!r} is none; documents go by the name of their "
            "text: text={'mine': [...]}"
        )
    return path


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a path, or with a null in it
        return False

"""Readers of what a user may give raise no error but stated ones, whatever they are given.

A minute in the slow tests, always the same examples. For longer, and others each time:
`FUZZ_EXAMPLES=100000 pytest -m slow tests/hostile/test_fuzz.py`.
"""

import contextlib
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from hostile.texts import rows
from probekit import reports
from probekit.data.documents import Source, sources
from probekit.data.texts import open_text
from probekit.errors import ProbekitError
from probekit.models.locations import find_location
from probekit.pipelines.analysis.finished import Run, load
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.progress import Journal
from probekit.runs import folder as results
from probekit.runs.bundle import of_run
from probekit.settings import RunSettings, Settings, from_file

F = TypeVar("F", bound=Callable[..., None])

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
RECORDS: tuple[type[RunSettings], ...] = (Settings, HeadSettings, DraftSettings)
# What formats are made of, so that bytes at random are not refused at the first of them.
PIECES = [
    b"{", b"}", b"[", b"]", b'"', b"'", b",", b":", b"=", b"\n", b"\r", b"\0", b"\\u", b"\\ud800",
    b"\xff", b"\xef\xbb\xbf", b"1e999", b"-", b"NaN", b"null", b"true", b'"text"', b'"messages"',
    b'"source"', b'"target"', b"model", b"offsets", b"9" * 400, b"[" * 2000, b"PAR1", b"\x1f\x8b",
    b'"schema"', b'"probekit.results/', b'"stage"', b'"event"', b"2026-01-01", b"\xe2\x80\xae",
]  # fmt: skip
BYTES = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
SUFFIXES = [".txt", ".jsonl", ".jl.gz", ".jsonl.zst", ".parquet", ".JSONL", ".csv", ".json", ""]


def examples(usual: int) -> Callable[[F], F]:
    """Draw so many examples, always the same ones unless more are asked for."""
    return settings(max_examples=EXAMPLES or usual, derandomize=not EXAMPLES)


@contextlib.contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def answered(call: Callable[[], object]) -> None:
    """Make a call that may raise stated errors alone, each with something to say."""
    said = "nothing"
    try:
        call()
    except ProbekitError as error:
        said = str(error)
    note(said)
    assert said.strip()


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw a file that is nearly right: bytes replaced, put in, left out, or its end cut off."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(0, 8))
        content[at : at + length] = draw(BYTES)[: draw(st.integers(0, 12))]
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:
    """Draw a document in which one value, somewhere, is another or missing."""
    copy = json.loads(json.dumps(whole))
    at, depth = copy, draw(st.integers(1, 7))
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return copy
        key, depth = draw(st.sampled_from(keys)), depth - 1
        if depth == 0 or not isinstance(at[key], (dict, list)):
            if draw(st.booleans()):
                at[key] = draw(JSON)
            else:
                del at[key]
            return copy
        at = at[key]


@cache
def parquet() -> bytes:
    table = pd.DataFrame({"text": [f"word {n}" for n in range(30)], "nested": [{"a": 1}] * 30})
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()


@pytest.mark.slow
@examples(300)
@given(BYTES | damaged(Settings(layers=(0, 6)).as_toml().encode()))
def test_settings_of_a_file(content: bytes) -> None:
    with place() as here:
        (here / "run.toml").write_bytes(content)
        for record in RECORDS:
            answered(lambda: record.from_mapping(from_file(here / "run.toml", record)))  # noqa: B023
        answered(lambda: results.settings_held(here, Settings, "run.toml"))


@pytest.mark.slow
@examples(300)
@given(st.sampled_from(RECORDS), st.data())
def test_settings_of_a_mapping(record: type[RunSettings], data: st.DataObject) -> None:
    names = st.sampled_from(list(record.__dataclass_fields__)) | st.text(max_size=8)
    answered(partial(record.from_mapping, data.draw(st.dictionaries(names, JSON, max_size=4))))


@pytest.mark.slow
@examples(500)
@given(
    BYTES | damaged(rows(count=4)) | damaged(parquet()) | damaged(gzip.compress(rows(count=4))),
    st.sampled_from(SUFFIXES),
    st.sampled_from(["text", "", "nested.a", "messages"]),
)
def test_a_text(content: bytes, suffix: str, field: str) -> None:
    with place() as here:
        (here / f"a{suffix}").write_bytes(content)
        for location in (here / f"a{suffix}", here):
            answered(lambda: open_text(Source("a", str(location)), field, longest=50).take(5, 99))  # noqa: B023


@pytest.mark.slow
@examples(400)
@given(st.lists(JSON | st.dictionaries(st.sampled_from(["text", "source", "target"]), JSON)))
def test_rows_of_any_kind(content: list[Any]) -> None:
    with place() as here:
        (here / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
        for pair in (("source", "target"), ("text.a", "text")):
            answered(lambda: open_text(Source("a", str(here / "a.jsonl")), "text", pair).take())  # noqa: B023


@pytest.mark.slow
@examples(300)
@given(st.text(max_size=60) | st.text("./~-a\0\x1b", max_size=12) | st.just("a/" * 400))
def test_names(name: str) -> None:
    answered(lambda: find_location(name, None))
    answered(lambda: sources([name, "a"]))
    assert results.folder_name(name.replace("\0", "")) not in {"", ".", ".."}


@pytest.mark.slow
@examples(150)
@given(st.data())
def test_files_of_a_run(finished_run: Run, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["results.json", "passages.json"]))
    whole = (finished_run.folder / name).read_bytes()
    made = changed(json.loads(whole)).map(lambda document: json.dumps(document).encode())
    content = data.draw(BYTES | damaged(whole) | made)
    with place() as here:
        for other in {"results.json", "passages.json", "run.toml"} - {name}:
            (here / other).write_bytes((finished_run.folder / other).read_bytes())
        (here / name).write_bytes(content)
        answered(lambda: load(here).passages)


def page(here: Path) -> str:
    run = load(here)
    return reports.render(run.results, run.passages)


@pytest.mark.slow
@examples(25)
@given(st.data())
def test_a_page_of_numbers_that_were_changed(finished_run: Run, data: st.DataObject) -> None:
    document = data.draw(changed(finished_run.results))
    with place() as here:
        for name in ("passages.json", "run.toml"):
            (here / name).write_bytes((finished_run.folder / name).read_bytes())
        (here / "results.json").write_text(json.dumps(document))
        answered(lambda: page(here))


@pytest.mark.slow
@examples(300)
@given(BYTES | JSON.map(lambda value: json.dumps(value).encode()))
def test_the_log_of_a_run(content: bytes) -> None:
    with place() as here:
        (here / "log.jsonl").write_bytes(content)
        answered(lambda: Journal(here / "log.jsonl", lambda _: None).recall("linear-0"))
        answered(lambda: of_run(here))

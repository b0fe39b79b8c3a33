"""What a document is in each kind of text, and which part of an analysis it belongs to."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import DataError
from probekit.text import SPLITS, Document, Source, read, split


def texts(location: Path | str, **how: object) -> list[str]:
    source = Source("d", str(location))
    return [document.text for document in read(source, **how)]  # type: ignore[arg-type]


def test_a_line_of_jsonl_is_a_document_and_blank_ones_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "  "}\n{"text": "two", "id": 2}\n')
    assert texts(path) == ["one", "two"]
    assert [document.name for document in read(Source("d", str(path)))] == ["line 1", "line 4"]


def test_unicode_line_ends_inside_a_json_string_end_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one\u2028two\x85three"}\n', encoding="utf-8")
    assert texts(path) == ["one\u2028two\x85three"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone")
    assert texts(tmp_path / "a.txt") == ["one"]


def test_a_file_of_a_folder_is_a_document_and_hidden_ones_are_skipped(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.md", ".git/config", "a/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a/c.md", "b.txt"]


def test_a_row_of_parquet_is_a_document(tmp_path: Path) -> None:
    pd.DataFrame({"body": ["one", "two"], "n": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", field="body") == ["one", "two"]


def test_a_plain_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert texts(tmp_path / "a.txt") == ["one\ntwo\n"]


def test_a_limit_is_a_number_of_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert texts(tmp_path / "a.jsonl", limit=1) == ["one"]


def test_the_built_in_text_is_read_by_domain() -> None:
    assert len(read(Source.parse("builtin:prose"), limit=3)) == 3
    assert Source.parse("builtin:prose").domain == "prose"
    with pytest.raises(DataError, match=r"the built-in text has the domains .*got 'verse'"):
        texts("builtin:verse")


def test_a_hub_data_set_without_the_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert Source.parse("hub:owner/name:train").domain == "owner/name"
    with pytest.raises(DataError, match="pip install datasets"):
        texts("hub:owner/name:train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "one"}\n{"text"\n', "line 2 is not JSON"),
        ("a.jsonl", b'["one"]\n', "line 1 must be an object with a field 'text'"),
        ("a.jsonl", b'{"body": "one"}\n', r"no text field 'text'; its fields are \['body'\]"),
        ("a.jsonl", rb'{"text": "\ud800"}', "line 1 holds half of a surrogate pair"),
        ("a.parquet", b"no table", "cannot be read as parquet"),
        ("a.txt", b"caf\xe9", "is not UTF-8 text: byte 3 cannot be decoded"),
        ("a.txt", b" \n", "holds no text"),
    ],
)
def test_a_text_that_cannot_be_read_says_where_and_why(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        texts(tmp_path / name)


def test_a_place_without_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder .* holds no files"):
        texts(tmp_path)
    with pytest.raises(DataError, match=r"no text at .*nowhere: give a file"):
        texts(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"--text must be PATH or NAME=PATH, got '=a'"):
        Source.parse("=a")


def numbered(*contents: object) -> list[Document]:
    return [Document("d", str(i), f"text {content}") for i, content in enumerate(contents)]


def test_documents_are_cut_at_80_and_90_percent_of_tokens_in_order_of_their_hash() -> None:
    documents = numbered(*range(10))
    parts = split(documents, [1] * 10)
    by_hash = [
        part for _, part in sorted((d.sha256, p) for d, p in zip(documents, parts, strict=True))
    ]
    assert by_hash == ["train"] * 8 + ["validation", "test"]


def test_sizes_are_tokens_and_not_documents() -> None:
    documents = sorted(numbered(*range(12)), key=lambda document: document.sha256)
    assert split(documents, [80, *[1] * 10, 10]) == ["train", *["validation"] * 10, "test"]


def test_identical_documents_are_on_one_side() -> None:
    documents = numbered(*([0, 1, 2, 3] * 5))
    parts = split(documents, [5] * 20)
    assert all(len({parts[i] for i in range(k, 20, 4)}) == 1 for k in range(4))


def test_fewer_than_three_different_documents_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"at least 3 different documents, 'd' has 2"):
        split(numbered(1, 2, 1), [5, 5, 5])


@given(st.lists(st.integers(1, 1000), min_size=3, max_size=30))
def test_each_part_holds_a_document_whatever_the_sizes(sizes: list[int]) -> None:
    assert set(split(numbered(*range(len(sizes))), sizes)) == set(SPLITS)

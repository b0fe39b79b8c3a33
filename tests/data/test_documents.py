"""What a document is in each kind of text, and which part of an analysis it belongs to."""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.data.documents import SPLITS, Document, Source, split
from probekit.data.texts import open_text
from probekit.errors import DataError


def read(location: Path | str, field: str = "text", **most: int) -> list[Document]:
    documents = open_text(Source("d", str(location)), field).take(**most)
    return [document for document in documents if isinstance(document, Document)]


def texts(location: Path | str, field: str = "text", **most: int) -> list[str]:
    return [document.text for document in read(location, field, **most)]


def test_a_line_of_jsonl_is_a_document_and_blank_ones_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "  "}\n{"text": "two", "id": 2}\n')
    assert texts(path) == ["one", "two"]
    assert [document.name for document in read(path)] == ["line 1", "line 4"]


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


def test_documents_are_taken_until_there_are_characters_enough(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{word}"}}\n' for word in ("one", " ", "two", "six")))
    taken = [texts(path, max_characters=n) for n in (1, 3, 4, 6, 7, 100)]
    assert [len(each) for each in taken] == [1, 1, 2, 2, 3, 3]
    assert taken[-1] == texts(path) == ["one", "two", "six"]
    assert texts(path, max_characters=100, limit=2) == ["one", "two"]


def test_a_line_beyond_what_is_taken_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": "two"}\ncaf\xe9\n')
    assert texts(tmp_path / "a.jsonl", max_characters=6) == ["one", "two"]
    with pytest.raises(DataError, match=r"a\.jsonl line 3 is not UTF-8 text: byte 3"):
        texts(tmp_path / "a.jsonl")


def test_lines_of_jsonl_may_end_as_on_windows_after_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n{"text": "two"}\r\n')
    assert texts(tmp_path / "a.jsonl") == ["one", "two"]


def break_column(path: Path, row_group: int, column: int) -> None:
    pages = pq.ParquetFile(path).metadata.row_group(row_group).column(column)
    start = pages.dictionary_page_offset or pages.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + pages.total_compressed_size] = b"\xff" * pages.total_compressed_size
    path.write_bytes(content)


def test_neither_other_columns_nor_later_rows_of_parquet_are_read(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.parquet", 200
    pd.DataFrame({"n": range(rows), "text": ["one"] * rows}).to_parquet(path, row_group_size=100)
    break_column(path, row_group=0, column=0)
    assert len(texts(path)) == rows
    break_column(path, row_group=1, column=1)
    assert len(texts(path, max_characters=30)) == 10
    with pytest.raises(DataError, match=r"the field 'text' of .*a\.parquet cannot be read: "):
        texts(path)


@pytest.mark.parametrize("field", ["text", "n"])
def test_a_parquet_without_the_text_field_names_those_it_has(tmp_path: Path, field: str) -> None:
    pd.DataFrame({"n": [1], "body": ["one"]}).to_parquet(tmp_path / "a.parquet")
    message = rf"^\S*a\.parquet row 1 has no text field '{field}'.*; its fields are \['body', 'n'\]"
    with pytest.raises(DataError, match=message):
        texts(tmp_path / "a.parquet", field=field)


def hub(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand in an endless data set; return a list of the rows fetched so far."""
    fetched: list[int] = []

    def rows(*_: object, **__: object) -> Iterator[dict[str, object]]:
        for number in count(1):
            fetched.append(number)
            yield {"text": f"text {number}"}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=rows))
    return fetched


def test_no_more_of_a_hub_data_set_is_fetched_than_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched = hub(monkeypatch)
    assert texts("hub:owner/name", max_characters=15) == ["text 1", "text 2", "text 3"]
    assert fetched == [1, 2, 3]


def test_a_hub_data_set_without_the_text_field_can_be_read_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub(monkeypatch)
    with pytest.raises(DataError, match=r"^owner/name row 1 has no text field 'body'"):
        texts("hub:owner/name", field="body")


def test_the_built_in_text_is_read_by_domain() -> None:
    assert len(read("builtin:prose", limit=3)) == 3
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
        ("a.jsonl", b'["one"]\n', "line 1 must be an object, got list"),
        ("a.jsonl", b'{"body": "one"}\n', r"no text field 'text'; its fields are \['body'\]"),
        ("a.jsonl", b'{"body": "one"}\n', "with --text-field, or those of pairs with --source-f"),
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


@pytest.mark.parametrize(
    ("n_documents", "train", "validation", "test"),
    [(10, 6, 1, 3), (200, 120, 20, 60), (400, 300, 40, 60), (1000, 800, 100, 100)],
)
def test_in_order_of_their_hash_documents_train_and_enough_of_them_test(
    n_documents: int, train: int, validation: int, test: int
) -> None:
    documents = numbered(*range(n_documents))
    parts = split(documents, [1] * n_documents)
    by_hash = [
        part for _, part in sorted((d.sha256, p) for d, p in zip(documents, parts, strict=True))
    ]
    assert by_hash == ["train"] * train + ["validation"] * validation + ["test"] * test


def test_sizes_are_tokens_and_not_documents() -> None:
    documents = sorted(numbered(*range(12)), key=lambda document: document.sha256)
    assert split(documents, [60, *[1] * 10, 30]) == ["train", *["validation"] * 10, "test"]


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

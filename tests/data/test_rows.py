"""Rows of every kind of place, read no further than they are taken."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from probekit.data import rows
from probekit.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"source": "Ja", "target": "Yes", "n": 1, "translation": {"de": "Ja", "en": "Yes"}},
    {"source": "Nein", "target": "No", "n": 2, "translation": {"de": "Nein", "en": "No"}},
]


def jsonl(path: Path) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return str(path)


def parquet(path: Path) -> str:
    pd.DataFrame(ROWS).to_parquet(path)
    return str(path)


@pytest.mark.parametrize("fields", [["source", "target"], ["translation.de", "translation.en"]])
def test_a_row_says_the_same_in_jsonl_and_in_parquet(tmp_path: Path, fields: list[str]) -> None:
    said = [
        [[rows.value(row, field) for field in fields] for _, row in rows.read(location, fields)]
        for location in (jsonl(tmp_path / "a.jsonl"), parquet(tmp_path / "a.parquet"))
    ]
    assert said[0] == said[1] == [["Ja", "Yes"], ["Nein", "No"]]


def test_of_parquet_what_nobody_asks_for_is_named_and_not_read(tmp_path: Path) -> None:
    (name, row), _ = rows.read(parquet(tmp_path / "a.parquet"), ["source", "absent"])
    unread = {"target": None, "n": None, "translation": None}
    assert (name, row) == ("row 1", {"source": "Ja", **unread})


def test_a_line_behind_those_that_are_taken_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"n": 1}\n\n{"n": 2}\nno JSON\n')
    read = rows.read(str(tmp_path / "a.ndjson"), ["n"])
    assert list(islice(read, 2)) == [("line 1", {"n": 1}), ("line 3", {"n": 2})]
    with pytest.raises(DataError, match=r"a\.ndjson line 4 is not JSON: Expecting value"):
        next(read)


def test_a_field_with_a_dot_in_its_name_is_that_field(tmp_path: Path) -> None:
    pd.DataFrame({"a.b": ["whole"], "a": ["part"]}).to_parquet(tmp_path / "a.parquet")
    ((_, row),) = rows.read(str(tmp_path / "a.parquet"), ["a.b"])
    assert rows.text(row, "a.b", "here", "No way.") == "whole"


def test_what_is_no_text_is_an_error_with_the_way_out() -> None:
    message = (
        r"^a line 1 has no text field 'n' \(it holds 1\); its fields are \['m', 'n'\]. Take m.$"
    )
    with pytest.raises(DataError, match=message):
        rows.text({"n": 1, "m": "x"}, "n", "a line 1", "Take m.")
    with pytest.raises(DataError, match="a line 1 holds half of a surrogate pair"):
        rows.text({"n": "\ud800"}, "n", "a line 1", "")

"""Pairs: which rows are some, and what is said of those that are none."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from probekit.data import pairs
from probekit.errors import DataError
from support.json_lines import jsonl


def test_the_template_is_the_papers() -> None:
    assert pairs.TEMPLATE.format(source="Ja.") == (
        "Translate the following German sentence to English: Ja.\n---\nTranslated: "
    )


def test_fields_may_be_nested_and_empty_sides_are_left_out(tmp_path: Path) -> None:
    sides = (None, "Yes", " ", "Yes.")
    rows = [{"translation": {"de": "Ja", "en": target}} for target in sides]
    location = jsonl(tmp_path / "a.jsonl", *rows)
    fields = ("translation.de", "translation.en")
    found = list(pairs.read(location, *fields))
    assert [(pair.name, pair.target) for pair in found] == [("line 2", "Yes"), ("line 4", "Yes.")]
    assert pairs.holds_pairs(location, *fields)
    assert not pairs.holds_pairs(location, "source", "target")
    assert not pairs.holds_pairs("builtin:prose", *fields)
    assert not pairs.holds_pairs(str(tmp_path / "none.jsonl"), *fields)
    pairs.require_named(location, *fields)  # the first target is null, not missing


def test_pairs_of_parquet_are_those_of_jsonl(tmp_path: Path) -> None:
    rows = [{"translation": {"de": f"w{n}", "en": f"w{n} w1"}} for n in range(3)]
    table = tmp_path / "a.parquet"
    pd.DataFrame(rows).to_parquet(table)
    fields = ("translation.de", "translation.en")
    assert pairs.holds_pairs(str(table), *fields)
    assert not pairs.holds_pairs(str(table), "source", "target")
    found, same = (
        [(pair.source, pair.target) for pair in pairs.read(location, *fields)]
        for location in (str(table), jsonl(tmp_path / "a.jsonl", *rows))
    )
    assert found == same == [(f"w{n}", f"w{n} w1") for n in range(3)]


def test_fields_that_were_named_must_be_there(tmp_path: Path) -> None:
    location = jsonl(tmp_path / "a.jsonl", {"de": "Ja", "text": "Yes"})
    pairs.require_named(location, "source", "target")
    pairs.require_named(location, "de", "text")
    pairs.require_named("builtin:prose", "de", "en")
    message = r"first row of .*a\.jsonl has no text field 'en'; its fields are \['de', 'text'\]"
    with pytest.raises(DataError, match=message):
        pairs.require_named(location, "de", "en")
    with pytest.raises(DataError, match=r"no text field 'target'.*--source-field and --target-f"):
        pairs.require_named(location, "de", "target")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"source": "a"}\n', r"line 1 has no text field 'target'; its fields are \['source'\]"),
        ('{"source": 1, "target": "b"}\n', "no text field 'source'.*--source-field"),
        ("[1]\n", "line 1 must be an object, got list"),
        ("{\n", "line 1 is not JSON: "),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(pairs.read(str(path)))


def test_what_is_no_file_of_pairs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs are read from .jsonl, .ndjson and .parquet files"):
        list(pairs.read("a.txt"))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(pairs.read(str(tmp_path / "none.jsonl")))


class NoHub:
    """Stands for the package `datasets` on a machine without a network."""

    @staticmethod
    def load_dataset(*_: object, **__: object) -> object:
        raise ConnectionError("Couldn't reach the Hub")


def test_a_hub_out_of_reach_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", NoHub)
    with pytest.raises(DataError, match=r"Couldn't reach the Hub.*as a JSONL file with the same"):
        list(pairs.read("hub:IWSLT/iwslt2017@iwslt2017-de-en:validation"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        list(pairs.read("hub:IWSLT/iwslt2017@iwslt2017-de-en:validation"))

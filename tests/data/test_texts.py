"""What a text holds is decided by its first row, and no more of it is read than is taken."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from probekit.data import presets
from probekit.data.documents import Document, Source
from probekit.data.prompted.pairs import USUAL_FIELDS, Pair
from probekit.data.texts import Chats, Documents, Pairs, open_text
from probekit.errors import DataError
from support.json_lines import jsonl

NESTED = ("translation.de", "translation.en")


def opened(location: Path | str, *fields: str) -> Documents | Pairs | Chats:
    pair_fields = (fields[0], fields[1]) if fields else USUAL_FIELDS
    return open_text(Source("d", str(location)), pair_fields=pair_fields)


def pairs(location: Path | str, *fields: str) -> list[Pair]:
    text = opened(location, *fields)
    assert isinstance(text, Pairs)
    return text.take()


def test_fields_may_be_nested_and_empty_sides_are_left_out(tmp_path: Path) -> None:
    sides = (None, "Yes", " ", "Yes.")
    rows = [{"translation": {"de": "Ja", "en": target}} for target in sides]
    location = jsonl(tmp_path / "a.jsonl", *rows)
    # The first target is null, not missing.
    found = pairs(location, *NESTED)
    assert [(pair.name, pair.target) for pair in found] == [("line 2", "Yes"), ("line 4", "Yes.")]
    assert isinstance(opened(location), Documents)
    assert isinstance(opened("builtin:prose", *NESTED), Documents)


def test_pairs_of_parquet_are_those_of_jsonl(tmp_path: Path) -> None:
    rows = [{"translation": {"de": f"w{n}", "en": f"w{n} w1"}} for n in range(3)]
    table = tmp_path / "a.parquet"
    pd.DataFrame(rows).to_parquet(table)
    assert isinstance(opened(table), Documents)
    found, same = (
        [(pair.source, pair.target) for pair in pairs(location, *NESTED)]
        for location in (table, jsonl(tmp_path / "a.jsonl", *rows))
    )
    assert found == same == [(f"w{n}", f"w{n} w1") for n in range(3)]


def test_fields_that_were_named_must_be_there(tmp_path: Path) -> None:
    location = jsonl(tmp_path / "a.jsonl", {"de": "Ja", "text": "Yes"})
    assert [document.name for document in opened(location).take()] == ["line 1"]
    assert pairs(location, "de", "text") == [Pair("line 1", "Ja", "Yes")]
    message = r"first row of .*a\.jsonl has no text field 'en'; its fields are \['de', 'text'\]"
    with pytest.raises(DataError, match=message):
        opened(location, "de", "en")
    with pytest.raises(DataError, match=r"no text field 'target'.*--source-field and --target-f"):
        opened(location, "de", "target")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"source": "a"}', r"line 2 has no text field 'target'; its fields are \['source'\]"),
        ('{"source": 1, "target": "b"}', "line 2 has no text field 'source'.*--source-field"),
        ("[1]", "line 2 must be an object, got list"),
        ("{", "line 2 is not JSON: "),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n' + row)
    with pytest.raises(DataError, match=message):
        pairs(path)


def test_pairs_behind_those_that_are_taken_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    jsonl(path, {"source": "ab", "target": "c"}, {"source": "d", "target": "ef"})
    path.write_text(path.read_text() + "no JSON\n")
    for limit, characters, count in ((1, None, 1), (None, 3, 1), (None, 4, 2), (2, 99, 2)):
        assert len(opened(path).take(limit, characters)) == count
    with pytest.raises(DataError, match="line 3 is not JSON"):
        opened(path).take(None, 7)


def test_a_text_that_holds_nothing_is_an_error(tmp_path: Path) -> None:
    location = jsonl(tmp_path / "a.jsonl", {"source": "Ja", "target": " "})
    with pytest.raises(DataError, match=r"a\.jsonl holds no pair: a side of every one is empty"):
        opened(location).take()
    (tmp_path / "b.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"b\.jsonl holds no text: every document in it is empty"):
        opened(tmp_path / "b.jsonl", "de", "en").take()
    with pytest.raises(DataError, match=r"no text at .*none\.jsonl: give a file"):
        opened(tmp_path / "none.jsonl", *NESTED)


@pytest.mark.parametrize(
    ("row", "kind"),
    [({"text": "Yes"}, Document), ({"source": "Ja", "target": "Yes", "text": "No"}, Pair)],
)
def test_a_hub_data_set_is_opened_once(
    monkeypatch: pytest.MonkeyPatch, row: dict[str, str], kind: type
) -> None:
    fetched: list[dict[str, str]] = []

    def rows(*_: object, **__: object) -> Iterator[dict[str, str]]:
        while True:
            fetched.append(row)
            yield row

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=rows))
    taken = opened("hub:owner/name").take(limit=3)
    assert [(type(entry), entry.name) for entry in taken] == [
        (kind, "row 1"), (kind, "row 2"), (kind, "row 3"),
    ]  # fmt: skip
    assert len(fetched) == 3


def test_a_preset_is_a_data_set_at_one_commit_and_its_articles_are_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, asked = [" = A = \n", "", " = = B = = \n", "b \n", " = C = \n", "c \n"], []

    def rows(*place: str, **options: object) -> Iterator[dict[str, str]]:
        asked.append((*place, options["split"], options["revision"]))
        return iter({"text": line} for line in lines)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=rows))
    found = opened("preset:wikitext-2").take()
    assert [(each.name, len(each.text)) for each in found if isinstance(each, Document)] == [
        ("row 1", 8 + 12 + 3), ("row 5", 8 + 3),
    ]  # fmt: skip
    commit = "b08601e04326c79dfdd32d625aee71d232d685c3"
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1", "train", commit)]
    assert Source.parse("preset:wikitext-2").domain == "wikitext-2"
    assert all(len(preset.revision) == 40 for preset in presets.entries().values())
    with pytest.raises(
        DataError, match=r"presets of texts are wikitext-2, tinystories, .*'wikitex'"
    ):
        opened("preset:wikitex")


class NoHub:
    """Stands for the package `datasets` on a machine without a network."""

    @staticmethod
    def load_dataset(*_: object, **__: object) -> object:
        raise ConnectionError("Couldn't reach the Hub")


def test_a_hub_out_of_reach_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", NoHub)
    with pytest.raises(DataError, match=r"Couldn't reach the Hub.*as a JSONL file with the same"):
        opened("hub:IWSLT/iwslt2017@iwslt2017-de-en:validation")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        opened("hub:IWSLT/iwslt2017@iwslt2017-de-en:validation")

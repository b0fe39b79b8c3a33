"""Arguments as Python has them: texts in all forms, one value for a list, words of Python."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import probekit
from probekit.data import dataset
from probekit.errors import DataError, ProbekitError, SettingsError
from probekit.pipelines.arguments import as_settings, located
from probekit.settings import RunSettings, Settings
from support import tiny_run

DOCUMENTS = tiny_run.documents(12)
ROWS = [{"text": text, "year": 1} for text in DOCUMENTS]
# The same documents in every form.
FORMS: dict[str, Any] = {
    "documents by name": {"text": DOCUMENTS},
    "rows": ROWS,
    "rows by name": {"text": (dict(row) for row in ROWS)},
    "series": pd.Series(DOCUMENTS, name="other"),
    "frame": pd.DataFrame(ROWS),
}


def read(text: Any, **more: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    settings = Settings.from_mapping(as_settings(Settings, {"text": text, **more}))
    documents, rows, _ = dataset.read(tiny_run.tokenizer(), settings, 32)
    return [document.ids for document in documents], rows


def test_a_text_is_the_same_in_every_form(tmp_path: Path) -> None:
    file = tiny_run.jsonl(tmp_path / "text.jsonl", DOCUMENTS)
    ids, (row,) = read(str(file))
    assert len(ids) == len(DOCUMENTS)
    for name, form in {"path": file, "list of paths": [file], **FORMS}.items():
        its_ids, (its_row,) = read(form)
        assert its_ids == ids, name
        assert its_row | {"source": ""} == row | {"source": ""}, name


def test_a_data_set_of_datasets_is_rows() -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(ROWS)
    assert read(made)[0] == read(FORMS["rows"])[0] == read({"a": made["text"]})[0]
    with pytest.raises(SettingsError, match=r"one split of \['train'\], such as text=data\['train"):
        located(datasets.DatasetDict(train=made), "text")


def test_the_same_text_has_the_same_name_and_another_one_another() -> None:
    assert located(FORMS["series"], "text") == located({"text": list(DOCUMENTS)}, "text")
    assert located({"text": DOCUMENTS}, "text") != located({"text": DOCUMENTS[1:]}, "text")


def test_null_documents_are_left_out_and_no_more_is_kept_than_asked_for() -> None:
    assert len(read({"a": [*DOCUMENTS, None, float("nan")]})[0]) == len(DOCUMENTS)
    endless = ({"text": text} for text in iter(lambda: "w0 w1 " * 10, None))
    assert located(endless, "text", most=1_000)[0].startswith("text=python:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DOCUMENTS, r"a list holds paths, and 'w\d.* is none; documents go by the name"),
        (3, "text must be a path, a list of paths, .* got a int"),
        ({"a": 3}, "text must be a path, a list of paths, .* got a int"),
        ({"a=b": DOCUMENTS}, "name of a text must be a word without '=', got 'a=b'"),
        ({"a": ["x", 3]}, "holds documents, as str, or rows, as dict; number 2 is a int"),
    ],
)
def test_a_text_that_is_none_says_what_it_may_be(text: Any, message: str) -> None:
    with pytest.raises((SettingsError, DataError), match=message):
        located(text, "text")


def test_a_text_of_another_process_is_asked_for_again() -> None:
    with pytest.raises(DataError, match=r"python:0 was given in Python, .* again as text="):
        read("a=python:0")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"layers": 3, "probe": "mlp"}, {"layers": (3,), "probe": ("mlp",)}),
        ({"layers": range(2)}, {"layers": (0, 1)}),
        ({"layers": pd.Series([4, 5]).to_numpy()}, {"layers": (4, 5)}),
        ({"layers": "all", "probe": ["mlp"], "offsets": 2}, {"layers": "all", "probe": ("mlp",)}),
        ({"layers": (), "text": ()}, {"layers": (), "text": ()}),
    ],
)
def test_one_value_stands_for_a_list(given: dict[str, Any], meant: dict[str, Any]) -> None:
    settings = Settings.from_mapping(as_settings(Settings, given))
    assert {name: getattr(settings, name) for name in meant} == meant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": "a"}, r"^layers must be a list, each int or one of all"),
        ({"block": 2}, "^block must be at least 3, got 2"),
        ({"text": {"all": DOCUMENTS}}, r"need different names.* say text={NAME: PATH}"),
    ],
)
def test_errors_speak_of_arguments(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ProbekitError, match=message):
        probekit.analyze("tiny-s", output=tmp_path, **given)


def test_a_folder_of_other_files_is_left_by_words_of_python(tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text(json.dumps({}))
    with pytest.raises(ProbekitError, match=r"name a new or empty folder with output$"):
        probekit.analyze("tiny-s", output=tmp_path)


def test_settings_of_no_text_are_left_as_they_are() -> None:
    assert as_settings(RunSettings, {"seed": 1}) == {"seed": 1}

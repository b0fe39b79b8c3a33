"""A document, and a position, is found again in the text that was given."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from probekit.data.prompted.pairs import PLAIN
from probekit.models.loading import wrap
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.arguments import as_settings
from probekit.progress import Journal
from probekit.runs.metadata import documents_table, run_row, with_places
from probekit.runs.setup import Setup, load_model, prepare, with_machine_defaults
from probekit.settings import Settings
from support import tiny_run


def prepared(asked: dict[str, Any], **more: Any) -> Setup:
    settings = Settings.from_mapping({**asked, **more})
    loaded = load_model(settings)
    return prepare(loaded, with_machine_defaults(settings, loaded))


def tokens(setup: Setup, text: str) -> list[int]:
    ids: list[int] = setup.loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def line(file: Path, name: str) -> Any:
    """Return the row that a document's name says it is."""
    kind, number = name.split()
    assert kind == "line"
    return json.loads(file.read_text().splitlines()[int(number) - 1])


def test_a_finished_run_names_line_and_digest_of_each_document(
    finished_run: Run, asked: dict[str, Any], text_file: Path
) -> None:
    table, setup = finished_run.document_names.set_index("document"), prepared(asked)
    assert len(table) == len(setup.documents) == tiny_run.DOCUMENTS
    for number, row in table.iterrows():
        text = line(text_file, row["name"])["text"]
        assert (row["source"], row["sha256"]) == (
            str(text_file),
            hashlib.sha256(text.encode()).hexdigest(),
        )
        assert (row["bytes"], row["lost"], row["start"]) == (len(text), 0, 0)
        assert row["tokens"] == row["whole_tokens"] == len(text.split())
        assert setup.documents[int(str(number))].ids == tokens(setup, text)
    scored = finished_run.documents.drop_duplicates("document").set_index("document")
    # Train documents are not scored.
    assert set(scored.index) == set(table[table["split"] != "train"].index)
    for column in ("domain", "split"):
        assert table.loc[scored.index, column].tolist() == scored[column].tolist()


def test_a_passage_names_its_line(finished_run: Run) -> None:
    assert finished_run.passages is not None
    names = finished_run.document_names.set_index("document")["name"]
    for passage in finished_run.passages["passages"]:
        assert passage["name"] == names[passage["document"]]


def test_the_numbers_of_each_marginal_position_are_those_of_the_scores(
    finished_run: Run, asked: dict[str, Any]
) -> None:
    table = pd.read_parquet(finished_run.folder / "marginal-positions.parquet")
    scores = finished_run.scores.query("readout == 'marginal' and positions == 'marginal'")
    for offset, rows in table.groupby("offset"):
        (score,) = scores[scores["offset"] == offset].to_dict("records")
        assert len(rows) == score["n_positions"]
        for metric in ("nats", "top1", "top5"):
            assert rows[metric].mean() == pytest.approx(score[metric])
    setup = prepared(asked)
    test = setup.blocks["test"].token_ids
    for row in table.to_dict("records"):
        document = setup.documents[row["document"]]
        assert int(test[row["block"], row["position"]]) == document.ids[row["token"]]


@pytest.mark.parametrize("kind", ["windows", "pairs"])
def test_positions_of_windows_and_pairs_are_counted_in_the_whole_document(
    kind: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "words.jsonl"
    texts = [" ".join([text] * 8) for text in tiny_run.documents()]
    rows = [{"text": text} for text in texts]
    if kind == "pairs":
        rows = [{"source": text[:20], "target": text[20:60]} for text in texts]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    setup = prepared(asked, text=(str(file),), max_tokens=128 * 40, block=48)
    documents, blocks = documents_table(setup), setup.blocks["test"]
    assert (documents["start"] > 0).any() == (kind == "windows")
    assert (documents["prompt"] > 0).all() == (kind == "pairs")
    block, position = blocks.valid(1).nonzero(as_tuple=True)
    owners = blocks.documents[block, position]
    columns = {"block": block, "position": position, "document": owners}
    places = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
    names = documents["name"].tolist()
    for place in with_places(places, setup).to_dict("records"):
        row = line(file, names[place["document"]])
        whole = row["text"] if kind == "windows" else _whole(row)
        ids = tokens(setup, whole)
        assert len(ids) == documents["whole_tokens"][place["document"]]
        assert int(blocks.token_ids[place["block"], place["position"]]) == ids[place["token"]]


def _whole(row: dict[str, str]) -> str:
    return PLAIN.format(source=row["source"].strip()) + row["target"].strip()


def test_what_repeats_a_run_is_a_call_where_something_was_given_in_python(
    asked: dict[str, Any], model_folder: Path
) -> None:
    journal = Journal(None, lambda _: None)
    settings = Settings.from_mapping(asked)
    setup = prepared(asked)
    assert run_row(setup, settings, journal)["command"] == "probekit analyze --config run.toml"
    given = {"text": {"mine": tiny_run.documents(12)}, "layers": 1}
    settings = Settings.from_mapping(as_settings(Settings, asked | given))
    setup = prepared(asked, text=settings.text, layers=(1,))
    told = run_row(setup, settings, journal)["command"]
    assert told.startswith(f"probekit.analyze({str(model_folder)!r}, text={{'mine': ...}}, device=")
    assert told.endswith("marginal_positions=24, layers=(1,))")
    own = replace(setup, loaded=wrap(setup.loaded.model, setup.loaded.tokenizer))
    told = run_row(own, settings, journal)["command"]
    assert told.startswith("probekit.analyze(model, tokenizer=tokenizer, text={'mine': ...}, batch")

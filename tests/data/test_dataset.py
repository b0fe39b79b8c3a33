"""Texts of pairs in a run, from the file to the scores."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import probekit
from probekit.errors import DataError
from probekit.pipelines.head_study.study_heads import study_heads
from probekit.runs.reading import json_schema
from probekit.runs.setup import Setup, load_model, prepare, with_machine_defaults
from probekit.settings import Settings
from support import tiny_run

PAIRS = 40
TEMPLATE = 1  # word of it, the dashes
QUICK: dict[str, Any] = {"block": 64, "marginal_positions": 8, "max_branches": 4}


def pairs(sources: random.Random) -> list[dict[str, str]]:
    """Return pairs whose targets are the same whatever the sources."""
    found = []
    for target in tiny_run.documents(PAIRS):
        source = [f"w{sources.randrange(tiny_run.WORDS)}" for _ in range(5)]
        found.append({"source": " ".join(source), "target": " ".join(target.split()[:20])})
    return found


def jsonl(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return jsonl(tmp_path_factory.mktemp("pairs") / "words.jsonl", pairs(random.Random(0)))


@pytest.fixture(scope="module")
def prepared(asked: dict[str, Any], pairs_file: str) -> Any:
    loaded = load_model(Settings.from_mapping(asked))

    def prepared(**more: Any) -> Setup:
        settings = Settings.from_mapping({**asked, **QUICK, "text": (pairs_file,), **more})
        return prepare(loaded, with_machine_defaults(settings, loaded))

    return prepared


def predicted(setup: Setup, offset: int) -> list[tuple[int, ...]]:
    """Return what is to be predicted of each pair at an offset, in any order."""
    found = []
    for blocks in setup.blocks.values():
        ids, valid = blocks.targets(offset), blocks.valid(offset)
        found += [tuple(row[mask].tolist()) for row, mask in zip(ids, valid, strict=True)]
    return sorted(found)


def test_what_is_predicted_of_pairs_is_their_targets_whatever_stands_before_them(
    prepared: Any, tmp_path: Path
) -> None:
    other = jsonl(tmp_path / "other.jsonl", pairs(random.Random(1)))
    one, two = prepared(), prepared(text=(other,))
    words, rows = tiny_run.tokenizer(), pairs(random.Random(0))
    targets = [words(row["target"])["input_ids"] for row in rows]  # the end is not known
    for offset in (1, 2, 3):
        wanted = sorted(tuple(ids[offset - 1 :]) for ids in targets)
        assert predicted(one, offset) == predicted(two, offset) == wanted
    before = [blocks.token_ids[:, :6] for blocks in one.blocks.values()]
    assert all(bool((ids[:, 0] == tiny_run.BOS).all()) for ids in before)


def test_pairs_are_told_of_counted_and_laid_in_short_blocks(prepared: Any) -> None:
    setup = prepared()
    assert {part.token_ids.shape[1] for part in setup.blocks.values()} == {TEMPLATE + 27}
    (row,), (warning, copied) = setup.text, setup.warnings
    assert copied["code"] == "overlap"  # of words that mostly follow from the one before
    assert f"{row['copied']:.1%} of the 9-grams of the test text" in copied["message"]
    assert sum(row["tokens"].values()) == PAIRS * (TEMPLATE + 25)
    assert sum(row["documents"].values()) == PAIRS
    assert warning["code"] == "pairs"
    assert "of the 1,040 tokens of 40 pairs the 800 of their targets alone" in warning["message"]
    bytes_of_first = len(pairs(random.Random(0))[0]["target"])
    assert setup.bytes_per_token[0] == bytes_of_first / 20


def test_pairs_and_documents_go_into_one_run(
    prepared: Any, pairs_file: str, text_file: Path
) -> None:
    setup = prepared(text=(f"a={pairs_file}", f"b={text_file}"))
    assert {part.token_ids.shape[1] for part in setup.blocks.values()} == {64}
    assert [bool(document.prompt) for document in setup.documents] == [True] * 40 + [False] * 40
    for blocks in setup.blocks.values():
        for row in blocks.documents:
            domains = {setup.domains[number] for number in row[row >= 0].tolist()}
            assert len(domains) == 1


def test_pairs_longer_than_a_block_are_left_out_with_a_warning(
    prepared: Any, tmp_path: Path
) -> None:
    rows = pairs(random.Random(0))
    rows[3]["source"] = "w1 " * 60
    _, warning, _ = prepared(text=(jsonl(tmp_path / "a.jsonl", rows),)).warnings
    assert warning["code"] == "pairs-left-out"
    assert warning["message"].startswith("a: 1 of 40 pairs are longer than a block of 64 tokens")
    with pytest.raises(DataError, match=r"words: none of 40 pairs fits .* 24 tokens.* --block"):
        prepared(block=24)


def test_a_limit_and_a_budget_leave_out_whole_pairs(prepared: Any) -> None:
    assert len(prepared(limit=5).documents) == 5
    kept = prepared(max_tokens=10 * (TEMPLATE + 25) + 3).documents
    assert [len(document.ids) for document in kept] == [TEMPLATE + 25] * 10


def test_rows_with_other_fields_are_pairs_where_those_are_named(
    prepared: Any, tmp_path: Path
) -> None:
    named = [{"de": row["source"], "en": row["target"]} for row in pairs(random.Random(0))]
    location = jsonl(tmp_path / "words.jsonl", named)
    found = prepared(text=(location,), source_field="de", target_field="en")
    assert found.text[0]["sha256"] == prepared().text[0]["sha256"]
    with pytest.raises(
        DataError, match=r"no text field 'text'.*those of pairs with --source-field"
    ):
        prepared(text=(location,))


def n_test_pairs(rows: list[dict[str, Any]]) -> int:
    return int(rows[0]["documents"]["test"])


def test_an_analysis_of_pairs_scores_their_targets_alone(
    asked: dict[str, Any], pairs_file: str, tmp_path: Path
) -> None:
    more = {**QUICK, "text": (pairs_file,), "controls": "none", "layers": (2,)}
    run = probekit.analyze(**{**asked, **more}, output=tmp_path / "run")
    count = n_test_pairs(run.results["text"])
    for row in run.results["scores"]:
        if (row["split"], row["positions"]) == ("test", "all"):
            # Twenty words, from the last of the prompt on; the model does not know the end.
            assert row["n_positions"] == count * (21 - row["offset"])
            assert row["n_documents"] == count
    assert "pairs" in {warning["code"] for warning in run.results["warnings"]}
    assert "{source}\\n---\\n" in (run.folder / "report.html").read_text()


def test_heads_are_trained_and_scored_on_the_targets_of_pairs(
    asked: dict[str, Any], pairs_file: str, tmp_path: Path
) -> None:
    more = {"epochs": 1, "step_blocks": 8, "strategies": ("heads-only",), "sweep": "none"}
    run = study_heads(
        **{**asked, **QUICK, **more, "text": (pairs_file,)}, output=tmp_path / "heads"
    )
    Draft202012Validator(json_schema("heads")).validate(run.document)
    count = n_test_pairs(run.document["text"])
    scored = [row for row in run.document["scores"] if row["positions"] == "all"]
    assert {row["strategy"] for row in scored} >= {"heads-only"}
    assert all(row["n_positions"] == count * (21 - row["offset"]) for row in scored)
    assert "pairs" in {warning["code"] for warning in run.document["warnings"]}

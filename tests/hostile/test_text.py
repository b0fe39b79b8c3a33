"""Texts as they come and as nobody wants them: each is read right, or refused in one sentence."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import probekit
from hostile.cases import Case, says
from hostile.texts import PLAIN, given, rows, words
from probekit.data.documents import Document, Source
from probekit.data.formats import plain
from probekit.data.texts import open_text
from support import tiny_run


def test_of_a_large_text_no_more_is_held_than_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word " * 4_000_000)
    tracemalloc.start()
    head = plain.head(path, longest=1000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert head == ("word " * 200, False)
    assert most < 1_000_000
    assert plain.head(path, longest=20_000_000).whole


def test_lines_end_alike_however_they_were_written(tmp_path: Path) -> None:
    for name, end, mark in (("a", "\n", ""), ("b", "\r\n", "\ufeff"), ("c", "\r", "")):
        text = mark + PLAIN.replace("\n", end)
        (tmp_path / name).write_bytes(text.encode())
        assert plain.head(tmp_path / name, longest=10**6) == (PLAIN, True)


def test_of_a_long_document_the_rest_is_cut_off_and_its_end_is_not_its_authors(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jsonl").write_bytes(rows(count=1))
    (tmp_path / "a.txt").write_text(words(0))
    for name in ("a.jsonl", "a.txt"):
        taken = open_text(Source("d", str(tmp_path / name)), longest=20).take()
        assert taken == [Document("d", taken[0].name, words(0)[:20], whole=False)]


def test_that_a_document_was_read_in_part_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probekit.data.dataset.LONGEST", 5000)
    sentence = "2 of 3 documents are windows: 357 of … read no further than 5,000 char"
    case = Case("a long text", given("a.txt", "--max-tokens", "100", a_txt=PLAIN), sentence)
    _, printed = case.answer(case.prepare(tmp_path), tmp_path)
    assert says(printed, sentence), printed


def test_a_line_too_long_to_hold_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.data.formats.lines.LONGEST_LINE", 2000)
    long = json.dumps({"text": "x" * 2000})
    case = Case("a long line", given("a.jl", a_jl=rows(count=2) + long.encode()), "")
    _, printed = case.answer(case.prepare(tmp_path), tmp_path)
    assert "a.jl line 3 is longer than 2,000 bytes: give each document a line" in printed


def test_of_a_text_that_the_tokenizer_does_not_know_nothing_is_read(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    """Every token is the unknown one, so every feature is the same at all positions."""
    texts = tiny_run.jsonl(tmp_path / "a.jsonl", [f"{words(n)} {words(n)}" for n in range(40)])
    more = {"text": (str(texts),), "controls": "none", "marginal": "off", "layers": (2,)}
    run = probekit.analyze(**{**asked, **more}, output=tmp_path / "run")
    assert "lost-text" in {warning["code"] for warning in run.results["warnings"]}
    rows = run.scores[(run.scores["split"] == "test") & (run.scores["readout"] == "linear")]
    assert rows["nats"].between(0, 0.01).all()  # that it is unknown is all there is to say

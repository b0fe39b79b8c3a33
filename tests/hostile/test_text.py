"""Texts as they come and as nobody wants them: each is read right, or refused in one sentence."""

import gzip
import json
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import probekit
from hostile.cases import Case, answer
from probekit.data.documents import Document, Source
from probekit.data.formats import plain
from probekit.data.texts import open_text
from support import tiny_run

WORDS = ("the", "of", "and", "to", "in", "that", "for", "it", "as", "was", "with", "by", "not")


def words(seed: int, count: int = 60) -> str:
    return f"{seed} " + " ".join(
        WORDS[(seed * 7 + n * n * (seed + 3)) % len(WORDS)] for n in range(count)
    )


def rows(first: int = 0, count: int = 40) -> bytes:
    texts = [words(first + n) for n in range(count)]
    return "".join(
        json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(texts)
    ).encode()


PLAIN = "".join(words(n, 12) + "\n" for n in range(400))
TABLE = pd.DataFrame({"text": [words(n) for n in range(40)]})
PLAN = ("--model", "tiny-s", "--dry-run", "--max-tokens", "20000")


def given(location: str, *more: str, **files: bytes | str) -> Callable[[Path], list[str]]:
    """Return what makes files, `__` a slash and `_` a dot in their names, and the command."""

    def make(folder: Path) -> list[str]:
        for name, content in files.items():
            path = folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return ["analyze", *PLAN, "--text", location, *more]

    return make


def a_zst(folder: Path) -> list[str]:
    with pa.CompressedOutputStream(str(folder / "a.jsonl.zst"), "zstd") as file:
        file.write(rows())
    return ["analyze", *PLAN, "--text", "a.jsonl.zst"]


def shards(folder: Path) -> list[str]:
    (folder / "d").mkdir()
    TABLE[:20].to_parquet(folder / "d" / "a.parquet")
    TABLE[20:].to_parquet(folder / "d" / "b.PARQUET")
    return ["analyze", *PLAN, "--text", "d"]


def bytes_in_a_name(folder: Path) -> list[str]:
    (folder / "d").mkdir()
    for n in range(30):
        Path(os.fsdecode(os.fsencode(folder / "d") + b"/caf\xe9%d.txt" % n)).write_text(words(n))
    return ["analyze", *PLAN, "--text", "d"]


ALL_ROWS = r"train 1,476 in 24, validation 247 in 4, test 737 in 12; no document is shortened"
DEEP, DIGITS = '{"text": ' + "[" * 100_000, '{"n": ' + "9" * 5000 + ', "text": "one"}\n'
CHAT = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})

CASES = (
    Case("rows in capitals", given("a.JSONL", a_JSONL=rows()), ALL_ROWS, 0),
    Case("rows called jsonlines", given("a.jsonlines", a_jsonlines=rows()), ALL_ROWS, 0),
    Case("rows called jl", given("a.jl", a_jl=rows()), ALL_ROWS, 0),
    Case("rows in gzip", given("a.jsonl.gz", a_jsonl_gz=gzip.compress(rows())), ALL_ROWS, 0),
    Case("rows in zstandard", a_zst, ALL_ROWS, 0),
    Case("half a gzip", given("a.jl.gz", a_jl_gz=gzip.compress(rows())[:300]), "Truncated compr"),
    Case(
        "a folder of rows",
        given("d", d__a_jsonl=rows(), d__b_ndjson=rows(40)),
        "train 2,963 in 48, .* in 8, .* in 24;",
        0,
    ),
    Case("shards of parquet", shards, ALL_ROWS, 0),
    Case(
        "rows beside text",
        given("d", d__a_jsonl=rows(), d__README_md=PLAIN),
        r"d holds rows \(a.jsonl, 1 files\) beside plain text \(README.md, 1\)",
    ),
    Case(
        "a table of commas",
        given("a.csv", a_csv="text\none\n"),
        r"pandas.read_csv\('a.csv'\).to_json\('rows.jsonl', orient='records', lines=True\)",
    ),
    Case("a folder of tables", given("d", d__a_CSV="text\n"), r"pandas.read_csv\('d/a.CSV'\)"),
    Case("one JSON", given("a.json", a_json="[]"), "read_json.*name it .jsonl"),
    Case("a saved data set", given("d", d__state_json="{}"), r"load_from_disk\('d'\).to_parquet"),
    Case("an archive", given("a.zip", a_zip=b"PK\3\4"), "a.zip is packed: .* with unzip"),
    Case("a packed text", given("a.txt.xz", a_txt_xz=b"\xfd7z"), "is packed: .* with unxz"),
    Case("a picture", given("a.png", a_png=b"\x89PNG\r\n\0\0\0\r"), "no text but binary data"),
    Case("an empty file", given("a.bin", a_bin=b""), "a.bin holds no text"),
    Case("UTF-16", given("a.txt", a_txt=PLAIN.encode("utf-16")), "iconv -f UTF-16 -t UTF-8"),
    Case("UTF-16 bare", given("a.txt", a_txt=PLAIN.encode("utf-16-le")), "iconv -f UTF-16LE -t"),
    Case("UTF-16 rows", given("a.jl", a_jl=rows().decode().encode("utf-16")), "-f UTF-16 -t"),
    Case("UTF-16 rows bare", given("a.jl", a_jl=rows().decode().encode("utf-16-be")), "UTF-16BE"),
    Case("Latin-1 late", given("a.txt", a_txt=b"x" * 99_999 + b"\xe9"), "byte 99999 .*LATIN1"),
    Case("depth", given("a.jl", a_jl=DEEP), "a.jl line 1 is nested too deep"),
    Case("digits", given("a.jl", a_jl=DIGITS.encode() + rows()), "train .* in ", 0),
    Case("chats", given("a.jl", a_jl=CHAT), "holds a chat in 'messages', and chats are not read"),
    Case(
        "chats by name",
        given("a.jl", "--text-field", "messages", a_jl=CHAT),
        "apply_chat_template.* into a field 'text'",
    ),
    Case("a null", given("a.jl", a_jl=b'{"text": null}\n' + rows()), "their 'text' is null: 1", 0),
    Case("nulls", given("a.jl", a_jl=b'{"text": null}\n' * 9), "in it is empty or null"),
    Case("bytes in names", bytes_in_a_name, "train .* in 19, .* in 2, .* in 9;", 0),
    Case("bytes in a path", given("caf\udce9.txt"), r"--text must be .* UTF-8, got .*\\udce9", 2),
    Case(
        "bytes in a run folder",
        lambda folder: ["analyze", "--model", "tiny-s", "--output", str(folder / "caf\udce9")],
        r"--output must be a path in UTF-8, got .*caf\\udce9",
    ),
    Case("nobody's folder", given("~nobody-of-this-name/a.txt"), "no such user's folder"),
    Case("a long name", given("x" * 5000), "cannot be read: File name too long"),
    Case("no name", given("=a.txt"), "--text must be PATH or NAME=PATH, got '=a.txt'"),
    Case("nothing", given(""), "--text must be PATH or NAME=PATH, got ''"),
    Case(
        "a limit", given("a.jl", "--limit", str(10**30)), r"--limit must be at most \d+, got 1", 2
    ),
    Case("a block", given("a.jl", "--block", str(10**10)), "--block must be at most 1048576", 2),
    Case(
        "settings", given("a.jl", "--config", "a.toml", a_toml="a = " + "[" * 9999), "not TOML", 2
    ),
    Case("NULs", given("a.txt", a_txt=PLAIN.replace("\n", "\0\n")), r"train .* in \d\d,", 0),
    Case(
        "Windows", given("a.txt", a_txt=b"\xef\xbb\xbf" + PLAIN.encode()), r"train .* in \d\d,", 0
    ),
    Case("copies", given("a.jl", a_jl=rows() * 50), ALL_ROWS + ".*: 1,960 of 2,000 doc", 0),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_text_is_read_right_or_refused_in_one_sentence(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code, printed = answer(case, tmp_path, monkeypatch, capsys)
    assert exit_code == case.exit_code, printed
    assert re.search(case.sentence, printed, re.DOTALL), printed


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


def test_of_a_long_document_the_rest_is_cut_off_and_its_end_is_not_its_authors(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jsonl").write_bytes(rows(count=1))
    (tmp_path / "a.txt").write_text(words(0))
    for name in ("a.jsonl", "a.txt"):
        taken = open_text(Source("d", str(tmp_path / name)), longest=20).take()
        assert taken == [Document("d", taken[0].name, words(0)[:20], whole=False)]


def test_that_a_document_was_read_in_part_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probekit.data.dataset.LONGEST", 5000)
    sentence = "2 of 3 documents are windows: 357 of .* read no further than 5,000 char"
    case = Case("a long text", given("a.txt", "--max-tokens", "100", a_txt=PLAIN), sentence)
    _, printed = answer(case, tmp_path, monkeypatch, capsys)
    assert re.search(case.sentence, printed, re.DOTALL), printed


def test_a_line_too_long_to_hold_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probekit.data.formats.lines.LONGEST_LINE", 2000)
    long = json.dumps({"text": "x" * 2000})
    case = Case("a long line", given("a.jl", a_jl=rows(count=2) + long.encode()), "")
    _, printed = answer(case, tmp_path, monkeypatch, capsys)
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

"""Text.

Files and folders of text, as they come and as nobody wants them.
"""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa

from hostile.cases import Case

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
PLAN = ("--model", "tiny-s", "--dry-run", "--max-tokens", "20000", "--separator", "eos")


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


ALL_ROWS = "train 1,476 in 24, validation 247 in 4, test 737 in 12; no document is shortened"
DEEP, DIGITS = '{"text": ' + "[" * 100_000, '{"n": ' + "9" * 5000 + ', "text": "one"}\n'
CHAT = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})

CASES = (
    Case("rows in capitals", given("a.JSONL", a_JSONL=rows()), ALL_ROWS, 0),
    Case("rows called jsonlines", given("a.jsonlines", a_jsonlines=rows()), ALL_ROWS, 0),
    Case("rows called jl", given("a.jl", a_jl=rows()), ALL_ROWS, 0),
    Case("rows in gzip", given("a.jsonl.gz", a_jsonl_gz=gzip.compress(rows())), ALL_ROWS, 0),
    Case("rows in zstandard", a_zst, ALL_ROWS, 0),
    Case(
        "half a gzip", given("a.jl.gz", a_jl_gz=gzip.compress(rows())[:300]), "Truncated compressed"
    ),
    Case(
        "a folder of rows",
        given("d", d__a_jsonl=rows(), d__b_ndjson=rows(40)),
        "train 2,963 in 48, … in 8, … in 24;",
        0,
    ),
    Case("shards of parquet", shards, ALL_ROWS, 0),
    Case(
        "rows beside text",
        given("d", d__a_jsonl=rows(), d__README_md=PLAIN),
        "d holds rows (a.jsonl, 1 files) beside plain text (README.md, 1)",
    ),
    Case(
        "a table of commas",
        given("a.csv", a_csv="text\none\n"),
        "pandas.read_csv('a.csv').to_json('rows.jsonl', orient='records', lines=True)",
    ),
    Case("a folder of tables", given("d", d__a_CSV="text\n"), "pandas.read_csv('d/a.CSV').to_json"),
    Case("one JSON", given("a.json", a_json="[]"), "read_json…name it .jsonl"),
    Case("a saved data set", given("d", d__state_json="{}"), "load_from_disk('d').to_parquet"),
    Case("an archive", given("a.zip", a_zip=b"PK\3\4"), "a.zip is packed: … with unzip"),
    Case("a packed text", given("a.txt.xz", a_txt_xz=b"\xfd7z"), "is packed: … with unxz"),
    Case("a picture", given("a.png", a_png=b"\x89PNG\r\n\0\0\0\r"), "no text but binary data"),
    Case("an empty file", given("a.bin", a_bin=b""), "a.bin holds no text"),
    Case("UTF-16", given("a.txt", a_txt=PLAIN.encode("utf-16")), "iconv -f UTF-16 -t UTF-8"),
    Case("UTF-16 bare", given("a.txt", a_txt=PLAIN.encode("utf-16-le")), "iconv -f UTF-16LE -t"),
    Case("UTF-16 rows", given("a.jl", a_jl=rows().decode().encode("utf-16")), "-f UTF-16 -t"),
    Case("UTF-16 rows bare", given("a.jl", a_jl=rows().decode().encode("utf-16-be")), "UTF-16BE."),
    Case("Latin-1 late", given("a.txt", a_txt=b"x" * 99_999 + b"\xe9"), "byte 99999 …LATIN1"),
    Case("depth", given("a.jl", a_jl=DEEP), "a.jl line 1 is nested too deep"),
    Case("digits", given("a.jl", a_jl=DIGITS.encode() + rows()), "train … in ", 0),
    Case(
        "chats", given("a.jl", a_jl=CHAT), "a holds chats, and the tokenizer of this model has no"
    ),
    Case(
        "chats by name",
        given("a.jl", "--text-field", "m", a_jl=CHAT.replace("messages", "m")),
        "holds chats, … or write each chat as one text",
    ),
    Case(
        "a chat of nobody",
        given("a.jl", a_jl='{"messages": [{"content": "Hello"}]}'),
        "a.jl line 1 has no chat in 'messages': it must be a list of messages, each with a 'role'",
    ),
    Case(
        "chats for the paper",
        lambda folder: ["reproduce", "figure-1", *given("a.jl", a_jl=CHAT)(folder)[-2:]],
        "a.jl holds chats; the paper's texts are pairs and documents",
    ),
    Case("a null", given("a.jl", a_jl=b'{"text": null}\n' + rows()), "their 'text' is null: 1.", 0),
    Case("nulls", given("a.jl", a_jl=b'{"text": null}\n' * 9), "in it is empty or null"),
    Case("bytes in names", bytes_in_a_name, "train … in 19, … in 2, … in 9;", 0),
    Case("bytes in a path", given("caf\udce9.txt"), "--text must be … UTF-8, got …\\udce9", 2),
    Case(
        "bytes in a run folder",
        lambda folder: ["analyze", "--model", "tiny-s", "--output", str(folder / "caf\udce9")],
        "--output must be a path in UTF-8, got …caf\\udce9",
    ),
    Case("nobody's folder", given("~nobody-of-this-name/a.txt"), "no such user's folder"),
    Case("a long path", given("a=" + "x" * 5000), "cannot be read: File name too long"),
    Case("no name", given("=a.txt"), "--text must be PATH or NAME=PATH, got '=a.txt'"),
    Case("no such preset", given("preset:x"), "presets of texts are wikitext-2, … got 'x'"),
    Case("nothing", given(""), "--text must be PATH or NAME=PATH, got ''"),
    Case(
        "a limit",
        given("a.jl", "--limit", str(10**30)),
        "--limit must be at most …, got 1000000000000000000000000000000",
        2,
    ),
    Case("a block", given("a.jl", "--block", str(10**10)), "--block must be at most 1048576", 2),
    Case(
        "settings", given("a.jl", "--config", "a.toml", a_toml="a = " + "[" * 9999), "not TOML", 2
    ),
    Case("NULs", given("a.txt", a_txt=PLAIN.replace("\n", "\0\n")), "train … in …,", 0),
    Case("Windows", given("a.txt", a_txt=b"\xef\xbb\xbf" + PLAIN.encode()), "train … in …,", 0),
    Case(
        "10,000 tokens, each a document",
        given("a.jl", a_jl=b"".join(b'{"text": "%d"}\n' % n for n in range(10_000))),
        "its longest document has 4 tokens and more than 4 are needed. Give more or longer",
        slow=True,
    ),
    Case(
        "right to left",
        given("a.jl", a_jl=rows().decode().replace('"text": "', '"text": "\u202e\u05d0')),
        "train … in 24, validation … in 4, test … in 12; no document is shortened",
        0,
    ),
    Case("an archive called rows", given("a.jl", a_jl=b"PK\3\4\0\0"), "no text but binary data"),
    Case("a compressed blank", given("a.jl.gz", a_jl_gz=gzip.compress(b"\n")), "holds no text"),
    Case("half a parquet", given("a.parquet", a_parquet=b"PAR1\0\0PAR1"), "be read as parquet"),
    Case("copies", given("a.jl", a_jl=rows() * 50), ALL_ROWS + "…: 1,960 of 2,000 documents", 0),
)

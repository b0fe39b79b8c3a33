"""The token inspector's data: what is packed comes back, fits its room and stays inert."""

import base64
import copy
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from probekit.errors import RunError
from probekit.reports import render
from probekit.reports.analysis.page_budget import MOST_INSPECTED
from probekit.reports.analysis.rows import index
from probekit.reports.components.visible_text import pieces
from probekit.reports.inspector.inspector import Inspector, build_inspector
from probekit.reports.inspector.passages import index_passages, pack
from support.pages import shared_pages
from support.pages.synthetic_passages import STRANGE, Held, passages
from support.pages.synthetic_run import Size, results

SMALL = Size(layers=3, offsets=3)
FEW = Held(tokens=40, others=90)
CEILING = {1: "model", 2: "marginal", 3: "marginal"}


class Shown(HTMLParser):
    """Collects start tags, the tokens of the passages, and the data."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tokens: list[list[str]] = []
        self.data = ""
        self._in: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        self._in.append((named.get("class") or named.get("id") or "") + " " + tag)
        if tag == "bdi" and self._in[-2].startswith("passage "):
            self.tokens.append(["", named.get("class") or "", named["title"] or ""])

    def handle_endtag(self, tag: str) -> None:
        while self._in and not self._in.pop().endswith(" " + tag):
            pass

    def handle_data(self, data: str) -> None:
        if self._in and self._in[-1] == "passages script":
            self.data += data
        if any(name.startswith("passage") and name.endswith(" p") for name in self._in):
            self.tokens[-1][0] += data


def unpacked(packed: dict[str, Any], row: list[Any]) -> dict[str, list[Any]]:
    """Unpack a reading the slow way: through a string of bits."""
    positions = sum(len(passage["tokens"]) for passage in packed["passages"])
    targets, tops, probs = (base64.b64decode(text) for text in row[3:])
    nats = [int.from_bytes(targets[2 * n : 2 * n + 2], "little") for n in range(positions)]
    stream = "".join(f"{byte:08b}" for byte in tops)
    width, depth = packed["width"], packed["depth"]
    numbers = [int(stream[n * width : (n + 1) * width], 2) for n in range(len(probs))]
    shares = [(byte / 255) ** 2 for byte in probs]
    groups = range(0, len(probs), depth)
    return {
        "nats": [None if code == 65_535 else code / 1000 for code in nats],
        "codes": list(targets[2 * positions :]),
        "top": [numbers[n : n + depth] for n in groups],
        "probs": [shares[n : n + depth] for n in groups],
    }


def flat(rows: list[list[Any]]) -> list[Any]:
    return [value for row in rows for value in row]


def expected_rank(code: int) -> float:
    return code + 1 if code < 128 else 128 * 2 ** ((code - 127) / 10.5)


def built(document: dict[str, Any] | None, room: int = MOST_INSPECTED) -> Inspector:
    found = build_inspector(index(results(SMALL)), document, ["linear", "lens"], room)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def hostile() -> Shown:
    return Shown(shared_pages.hostile_page())


def test_what_is_packed_comes_back() -> None:
    document = passages(SMALL, FEW)
    found = index_passages(document, index(results(SMALL)), MOST_INSPECTED)
    packed = pack(found)
    assert packed["kept"] == 20
    assert len(packed["readings"]) == len(document["readings"])
    rows = {(found.names[row[0]], row[1], row[2]): row for row in packed["readings"]}
    for given in document["readings"]:
        own = given["readout"] == CEILING[given["offset"]]
        name = "ceiling" if own else given["readout"]
        back = unpacked(packed, rows[name, given["layer"], given["offset"]])
        targets = zip(
            *(flat(given[part]) for part in ("nats", "rank", "top", "probs")), strict=True
        )
        for n, (nats, rank, top, probs) in enumerate(targets):
            if nats is None:
                assert back["nats"][n] is None
                continue
            assert back["nats"][n] == pytest.approx(nats, abs=6e-4)
            assert expected_rank(back["codes"][n]) == pytest.approx(rank, rel=0.07 * (rank > 128))
            words = [packed["words"][word] for word in back["top"][n]]
            assert [[word] if isinstance(word, str) else list(word) for word in words] == [
                list(pieces(document["vocabulary"][word])) for word in top
            ]
            assert back["probs"][n] == pytest.approx(probs, abs=0.004)


def test_tokens_and_targets_are_packed_as_places_in_one_vocabulary() -> None:
    document = passages(SMALL, FEW)
    packed = pack(index_passages(document, index(results(SMALL)), MOST_INSPECTED))
    for passage, given in zip(packed["passages"], document["passages"], strict=True):
        words = [packed["words"][word] for word in passage["tokens"]]
        texts = [pieces(document["vocabulary"][word]) for word in given["tokens"]]
        assert [word if isinstance(word, str) else "".join(word) for word in words] == [
            "".join(parts) for parts in texts
        ]
        assert passage["targets"]["2"] == [*passage["tokens"][2:], -1, -1]


def test_two_hundred_tokens_nine_layers_and_four_offsets_are_kept_whole() -> None:
    size = Size(layers=8, offsets=4)
    run = index(results(size))
    inspector = build_inspector(run, passages(size, Held(whole=(), others=2000)), ["linear"])
    assert inspector is not None
    assert inspector.kept is None
    assert inspector.left_out == []
    assert 300_000 < len(inspector.data.encode()) < 350_000


def test_more_than_the_room_keeps_colours_and_says_where_first_choices_end() -> None:
    document = passages(SMALL, replace(FEW, tokens=100))
    inspector = built(document, room=30_000)
    packed = json.loads(inspector.data)
    assert inspector.left_out == []
    assert 25_000 < len(inspector.data.encode()) < 31_000
    assert inspector.kept == packed["kept"]
    assert 5 < packed["kept"] < 45
    back = unpacked(packed, packed["readings"][0])
    assert len(back["nats"]) == 100
    assert len(back["top"]) == 2 * packed["kept"]


def test_where_colours_alone_are_too_many_the_last_readouts_are_left_out() -> None:
    document = passages(SMALL, replace(FEW, tokens=100, probes=("linear", "mlp", "sklearn")))
    inspector = built(document, room=30_000)
    assert inspector.left_out == ["mlp", "sklearn"]
    assert [title for _, title in inspector.readouts] == [
        "linear probe",
        "logit lens",
        "the model itself",
        "all layers at once",
    ]


def test_the_same_passages_give_the_same_bytes_and_are_not_changed() -> None:
    document = passages(SMALL, FEW)
    before = copy.deepcopy(document)
    first = built(document)
    assert document == before
    assert built(json.loads(json.dumps(document))) == first


def test_hostile_tokens_are_inert_and_shown_spelled_out(hostile: Shown) -> None:
    scripts = [attrs for tag, attrs in hostile.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "passages"}, {}]
    assert not [tag for tag, _ in hostile.tags if tag == "img"]
    assert [name for _, attrs in hostile.tags for name in attrs if name.startswith("on")] == []
    shown = [text for text, _, _ in hostile.tokens]
    for text in ("<img src=x onerror=window.hacked=1>", "</script>", "<!--", "{{ 7*7 }}", "&amp;"):
        assert text in shown
    for text in ("∅", "↵\n↵\n", "⇥⇥", "⍽", "◌\u0301", "⟨U+200D⟩", "⟨U+2028⟩", "⟨U+D800⟩"):
        assert text in shown
    assert "x" * 40 + "… 10,000 characters" in shown
    assert "⟨U+202E⟩gnp.exe" in shown
    words = json.loads(hostile.data)["words"]
    assert "".join(pieces("</script>")) in words
    assert not re.search("[<>&\u2028\u2029\x00-\x1f\u202e]", hostile.data)


def test_every_strange_token_is_one_element_that_says_its_number(hostile: Shown) -> None:
    assert len(hostile.tokens) == 160
    assert len(STRANGE) < 40
    titled = [title for _, step, title in hostile.tokens if step]
    assert len(titled) == 156  # two passages, two tokens without a target in each
    assert all(re.fullmatch(r"t\+2: (< )?[\d.]+ %, rank [\d,]+", title) for title in titled)


def test_without_script_colours_are_those_of_the_best_layer_two_tokens_ahead() -> None:
    run, document = results(SMALL), passages(SMALL, FEW)
    best = next(
        row["best_layer"]
        for row in run["specialization"]
        if (row["offset"], row["domain"]) == (2, "all")
    )
    reading = next(
        row
        for row in document["readings"]
        if (row["readout"], row["layer"], row["offset"]) == ("linear", best, 2)
    )
    inspector = built(document)
    tokens = [token for passage in inspector.passages for token in passage.tokens]
    for token, nats, rank in zip(tokens, flat(reading["nats"]), flat(reading["rank"]), strict=True):
        if nats is None or token.step is None:
            assert (token.step, nats, token.title) == (None, None, "t+2: no target here")
            continue
        place = 12 + 4 * math.log10(math.exp(-nats))  # four steps a factor of ten
        assert abs(token.step + 0.5 - min(max(place, 0.5), 11.5)) < 0.51
        assert token.title.endswith(f"rank {rank:,}")
    first = sum(rank == 1 for rank in flat(reading["rank"]))
    said = f"linear probe, layer {best} of 3, t+2: the target comes first at {first} of 36"
    assert inspector.state.startswith(said)


def test_a_passage_from_right_to_left_runs_so() -> None:
    texts = (
        ("prose", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd " * 5),
        ("code", "a b c "),
    )
    inspector = built(passages(SMALL, replace(FEW, texts=texts)))
    assert [passage.direction for passage in inspector.passages] == ["rtl", "ltr"]


def test_a_run_without_passages_says_so_and_how_to_get_them() -> None:
    size = Size(layers=2, offsets=2, domains=("prose",), marginal=False)
    run = index(results(size))
    assert build_inspector(run, None, []) is None
    assert build_inspector(run, passages(size, FEW) | {"readings": []}, []) is None
    page = render(shared_pages.of_one_metric(results(size)))
    assert "This run has no passages to inspect. <code>probekit analyze</code>" in page
    assert '<script type="application/json"' not in page
    assert 'id="examples"' not in page


def test_passages_of_another_schema_are_refused() -> None:
    document = passages(SMALL, FEW) | {"schema": "probekit.passages/2"}
    with pytest.raises(RunError, match=r"reads passages of schema 'probekit.passages/1', got"):
        built(document)


def test_what_sees_the_tokens_between_is_called_token_fed() -> None:
    document = passages(SMALL, FEW)
    for row in document["readings"]:
        row["blind"] = row["readout"] != "concat"
    assert "all layers at once (token-fed)" in dict(built(document).readouts).values()

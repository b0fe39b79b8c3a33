"""The passages of a run: readings by what they are about, and all of it packed for the page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from probekit.readout import CONCAT, LENS
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.rows import ceiling, require_schema
from probekit.reports.components.visible_text import pieces
from probekit.reports.inspector.packing import pack_numbers, pack_probs, pack_targets, packed_bytes

SCHEMA = "probekit.passages/1"
CEILING = "ceiling"  # the model at t+1 and its marginal from t+2 on: one choice of the page
_TARGET_BITS = 24  # of nats and rank at a position
_PROB_BITS = 8
_ROW_BYTES = 40  # of a reading's name, layer, offset and punctuation
_PLACE_BYTES = 5  # of a token's or a target's place in the vocabulary, and its comma
ReadingKey = tuple[str, int | None, int]


@dataclass(frozen=True)
class PassageReading:
    """What one readout says at every position, passage after passage; None: no target.

    Attributes:
        blind: Whether it sees the tokens up to t only.
        nats: Cross-entropy of the target, in nats.
        rank: Place of the target, from 1.
        top: Indices of its most probable tokens into the vocabulary, most probable first.
        probs: Their probabilities.
    """

    blind: bool
    nats: Sequence[float | None]
    rank: Sequence[int | None]
    top: Sequence[Sequence[int] | None]
    probs: Sequence[Sequence[float] | None]


@dataclass(frozen=True)
class Passages:
    """Passages of a run.

    Attributes:
        document: The content of passages.json.
        readings: Readings by (readout, layer, offset).
        names: Readouts, those to be kept first in front.
        left_out: Readouts for which the page has no room.
        room: How many bytes of the page all may take.
    """

    document: Mapping[str, Any]
    readings: Mapping[ReadingKey, PassageReading]
    names: Sequence[str]
    left_out: Sequence[str]
    room: int

    @property
    def lengths(self) -> list[int]:
        """Return the number of tokens of each passage."""
        return [len(passage["tokens"]) for passage in self.document["passages"]]

    def layered(self, name: str) -> bool:
        """Return whether a readout reads one layer at a time."""
        return any(key[0] == name and key[1] is not None for key in self.readings)

    def blind(self, name: str) -> bool:
        """Return whether a readout sees the tokens up to t only, at every offset."""
        return all(reading.blind for key, reading in self.readings.items() if key[0] == name)


def index_passages(document: Mapping[str, Any], run: RunRows, room: int) -> Passages:
    """Index passages, and leave out readouts for which the page has no room.

    Args:
        document: The content of passages.json.
        run: The run that they are of.
        room: How many bytes of the page they may take.

    Raises:
        RunError: If the schema is not the one that this version reads.
    """
    way_out = "run the analysis again with this version of probekit"
    require_schema(document, SCHEMA, "the report reads passages", way_out)
    readings = dict(map(_reading, document["readings"]))
    scored = dict.fromkeys(key[0] for key in readings)
    first = [name for name in (run.probe, LENS, CEILING, CONCAT) if name in scored]
    names = list(dict.fromkeys([*first, *scored]))
    positions = sum(len(passage["tokens"]) for passage in document["passages"])
    row_bytes = packed_bytes(positions * _TARGET_BITS) + _ROW_BYTES
    kept = _kept(names, [key[0] for key in readings], room / 2 / row_bytes)
    return Passages(
        document,
        {key: reading for key, reading in readings.items() if key[0] in kept},
        kept,
        [name for name in names if name not in kept],
        room,
    )


def _reading(row: Mapping[str, Any]) -> tuple[ReadingKey, PassageReading]:
    name = CEILING if row["readout"] == ceiling(row["offset"]) else row["readout"]
    nats, rank, top, probs = (
        list(chain.from_iterable(row[part])) for part in ("nats", "rank", "top", "probs")
    )
    return (name, row["layer"], row["offset"]), PassageReading(row["blind"], nats, rank, top, probs)


def _kept(names: Sequence[str], rows: Sequence[str], most: float) -> list[str]:
    """Return the first readouts, as many as have no more than `most` rows together.

    >>> _kept(["linear", "lens"], ["lens", "linear", "lens"], 2.5)
    ['linear']
    """
    kept: list[str] = []
    count = 0
    for name in names:
        count += rows.count(name)
        if not kept or count <= most:
            kept.append(name)
    return kept


def pack(passages: Passages) -> dict[str, Any]:
    """Return passages as the page's script reads them, within their room.

    Colours are kept at every position; the tokens that a readout puts first are kept at the
    beginning of each passage, as far as there is room.
    """
    kept = _fit(passages)
    words = _words(passages, kept)
    place = {word: n for n, word in enumerate(words)}
    width = _width(len(words))
    vocabulary = passages.document["vocabulary"]
    depth = _depth(passages)
    chosen = _chosen(passages.lengths, 0, kept)
    rows = []
    for (name, layer, offset), reading in passages.readings.items():
        tops = [(reading.top[n] or [words[0]] * depth)[:depth] for n in chosen]
        probs = [(reading.probs[n] or [0.0] * depth)[:depth] for n in chosen]
        rows.append([
            passages.names.index(name),
            layer,
            offset,
            pack_targets(reading.nats, reading.rank),
            pack_numbers([place[word] for top in tops for word in top], width),
            pack_probs([prob for row in probs for prob in row]),
        ])  # fmt: skip
    return {
        "words": [_entry(pieces(vocabulary[word])) for word in words],
        "width": width,
        "depth": depth,
        "kept": kept,
        "passages": [_placed(passage, place) for passage in passages.document["passages"]],
        "readings": rows,
    }


def _placed(passage: Mapping[str, Any], place: Mapping[int, int]) -> dict[str, Any]:
    """Return tokens and targets as places in the page's vocabulary, -1 for no target."""
    targets = {
        offset: [-1 if word is None else place[word] for word in targets_at]
        for offset, targets_at in passage["targets"].items()
    }
    return {"tokens": [place[word] for word in passage["tokens"]], "targets": targets}


def _entry(parts: Sequence[str]) -> str | Sequence[str]:
    return parts[0] if len(parts) == 1 else parts


def _fit(passages: Passages) -> int:
    """Return from how many tokens of each passage the first choices are kept."""
    rows, depth = len(passages.readings), _depth(passages)
    n_tokens, lines = sum(passages.lengths), 1 + len({key[2] for key in passages.readings})
    fixed = rows * (packed_bytes(n_tokens * _TARGET_BITS) + _ROW_BYTES)
    fixed += lines * n_tokens * _PLACE_BYTES
    seen = set(_words(passages, 0))
    spelled = _spelled_bytes(passages, seen)
    for kept in range(max(passages.lengths, default=0)):
        new = set(_chosen_words(passages, _chosen(passages.lengths, kept, kept + 1))) - seen
        seen |= new
        spelled += _spelled_bytes(passages, new)
        positions = len(_chosen(passages.lengths, 0, kept + 1))
        tops = packed_bytes(rows * positions * depth * (_width(len(seen)) + _PROB_BITS))
        if fixed + spelled + tops > passages.room:
            return kept
    return max(passages.lengths, default=0)


def _width(words: int) -> int:
    """Return the bits that tell so many words apart.

    >>> _width(1), _width(256), _width(257)
    (1, 8, 9)
    """
    return max(1, (words - 1).bit_length())


def _spelled_bytes(passages: Passages, words: Iterable[int]) -> int:
    vocabulary = passages.document["vocabulary"]
    return sum(sum(len(part.encode()) + 3 for part in pieces(vocabulary[n])) for n in words)


def _depth(passages: Passages) -> int:
    """Return how many first choices every reading has: five, or all of a small vocabulary."""
    lengths = (len(top) for reading in passages.readings.values() for top in reading.top if top)
    return min(lengths, default=0)


def _words(passages: Passages, kept: int) -> list[int]:
    """Return the vocabulary that is shown, in the order of appearance."""
    seen: dict[int, None] = {}
    for passage in passages.document["passages"]:
        seen |= dict.fromkeys(passage["tokens"])
        for targets in passage["targets"].values():
            seen |= dict.fromkeys(word for word in targets if word is not None)
    chosen = _chosen(passages.lengths, 0, kept)
    return list(seen | dict.fromkeys(_chosen_words(passages, chosen)))


def _chosen_words(passages: Passages, positions: Sequence[int]) -> Iterator[int]:
    for reading in passages.readings.values():
        for n in positions:
            yield from reading.top[n] or ()


def _chosen(lengths: Sequence[int], first: int, end: int) -> list[int]:
    """Return the positions of tokens `first` to `end` - 1 of every passage.

    >>> _chosen([3, 2], 0, 2), _chosen([3, 2], 2, 3)
    ([0, 1, 3, 4], [2])
    """
    positions: list[int] = []
    start = 0
    for length in lengths:
        positions += range(start + first, start + min(length, end))
        start += length
    return positions

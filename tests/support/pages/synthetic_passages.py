"""Plausible passages of a run that never was, for testing the token inspector."""

import math
import random
import re
from dataclasses import dataclass, field
from typing import Any

from support.pages.synthetic_run import HOSTILE, Size

PROSE = """The keeper of the lighthouse climbed the stairs each evening, counting them as he went, \
and lit the lamp before the first ships came round the point. He kept a book in which he wrote the \
wind, the weather and the names of those that passed; on most nights the page held nothing else. \
When the fog lay on the water he rang the bell, once a minute, until the morning."""
CODE = '''def area(shape):
    """Return the area of a shape."""
    if shape.kind == "circle":
        return math.pi * shape.radius ** 2
    return shape.width * shape.height

for name in sorted(shapes):
    print(name, area(shapes[name]))
'''
STRANGE = (
    HOSTILE,
    "",
    "\u05e9\u05dc\u05d5\u05dd",  # Hebrew
    " \u0645\u0631\u062d\u0628\u0627",  # Arabic
    "\u0301",  # an accent without its letter
    "e\u0301",
    "Z" + "\u0336\u0334\u0321" * 30,  # stacked marks
    "\U0001f469\u200d\U0001f680",  # an astronaut: two emoji and a joiner
    "\U0001f30d",
    "\u200d",  # the joiner alone
    "\u202egnp.exe",
    "\x00",
    "\x1b[31m",
    "\r\n",
    "\n\n",
    "\t\t",
    "    ",
    "\xa0",
    "\u2028",
    "x" * 10_000,
    "<0xE2><0x80>",
    "</script>",
    "<img src=x onerror=window.hacked=1>",
    "<!--",
    "&amp;",
    "\"'`",
    "\ud800",
    "{{ 7*7 }}",
)
DEPTH = 5


@dataclass(frozen=True)
class Held:
    """What the passages hold."""

    tokens: int = 200
    layers: tuple[int, ...] | None = None
    probes: tuple[str, ...] = ("linear",)
    whole: tuple[str, ...] = ("concat",)
    target: str = "text"
    others: int = 600  # words that occur nowhere but among first choices
    texts: tuple[tuple[str, str], ...] = field(default=(("prose", PROSE), ("code", CODE)))


def passages(size: Size, held: Held | None = None) -> dict[str, Any]:
    """Return the content of a passages.json of schema probekit.passages/1."""
    held = held or Held()
    chance = random.Random(17)
    blocks = _blocks(size, held)
    seen = [word for _, words in blocks for word in words]
    vocabulary = list(dict.fromkeys([*seen, *(f" word{n}" for n in range(held.others))]))
    place = {word: n for n, word in enumerate(vocabulary)}
    layers = held.layers or spread(size.layers)
    offsets = list(range(1, size.offsets + 1))
    found = [_passage(domain, [place[word] for word in words], offsets) for domain, words in blocks]
    readings = []
    for offset in offsets:
        for readout, layer in _readouts(held, layers, offset):
            rows = [
                _reading(passage, (readout, layer, offset), (size, len(vocabulary)), chance)
                for passage in found
            ]
            row: dict[str, Any] = {"readout": readout, "layer": layer, "offset": offset}
            row["blind"] = True
            for part in ("nats", "rank", "top", "probs"):
                row[part] = [reading[part] for reading in rows]
            readings.append(row)
    return {
        "schema": "probekit.passages/1",
        "target": held.target,
        "layers": list(layers),
        "offsets": offsets,
        "vocabulary": vocabulary,
        "passages": found,
        "readings": readings,
    }


def spread(blocks: int) -> tuple[int, ...]:
    """Return at most nine layers, 0 and the last among them.

    >>> spread(4), spread(80)
    ((0, 1, 2, 3, 4), (0, 10, 20, 30, 40, 50, 60, 70, 80))
    """
    if blocks < 9:
        return tuple(range(blocks + 1))
    return tuple(round(blocks * n / 8) for n in range(9))


def _blocks(size: Size, held: Held) -> list[tuple[str, list[str]]]:
    texts = [(domain, re.findall(r" ?\w+|\s+|[^\w\s]+", text)) for domain, text in held.texts]
    if size.hostile:
        texts = [(f"prose {HOSTILE}", [*STRANGE, *texts[0][1]]), *texts[1:]]
    each = held.tokens // len(texts)
    return [(domain, (words * math.ceil(each / len(words)))[:each]) for domain, words in texts]


def _passage(domain: str, tokens: list[int], offsets: list[int]) -> dict[str, Any]:
    targets = {str(k): [*tokens[k:], *[None] * k][: len(tokens)] for k in offsets}
    where = {"domain": domain, "document": len(tokens) % 23, "position": 31}
    where["name"] = f"line {len(tokens)}"
    return where | {"tokens": tokens, "targets": targets}


def _readouts(held: Held, layers: tuple[int, ...], offset: int) -> list[tuple[str, int | None]]:
    found: list[tuple[str, int | None]] = [
        (name, layer) for name in ("lens", *held.probes) for layer in layers
    ]
    found += [(name, None) for name in held.whole]
    return [*found, ("model" if offset == 1 else "marginal", None)]


def _reading(
    passage: dict[str, Any],
    about: tuple[str, int | None, int],
    sizes: tuple[Size, int],
    chance: random.Random,
) -> dict[str, list[Any]]:
    (readout, layer, offset), (size, words) = about, sizes
    depth = 1.0 if layer is None else layer / size.layers
    known = math.sin(min(depth / 0.8, 1.2) * math.pi / 2) / offset**0.6
    known -= 0.6 * (1 - depth) if readout == "lens" else 0.0
    rows: dict[str, list[Any]] = {"nats": [], "rank": [], "top": [], "probs": []}
    for n, target in enumerate(passage["targets"][str(offset)]):
        if target is None:
            for part in rows.values():
                part.append(None)
            continue
        ease = random.Random(target * 31 + n).random()  # some tokens are easy for everyone
        nats = max(0.02, 7.5 - 8.5 * known * ease**0.7 + chance.gauss(0, 0.4))
        rank = max(1, round(math.exp(nats) * 0.3))
        top = chance.sample([word for word in range(words) if word != target], DEPTH)
        share = math.exp(-nats)
        probs = sorted((0.4 * (1 - share) * 0.6**i for i in range(DEPTH)), reverse=True)
        if rank <= DEPTH:
            top[rank - 1], probs[rank - 1] = target, share
            probs = sorted(probs, reverse=True)
            top.remove(target)
            top.insert(probs.index(share), target)
            rank = probs.index(share) + 1
        for part, value in zip(rows.values(), (nats, rank, top, probs), strict=True):
            part.append(value)
    return rows

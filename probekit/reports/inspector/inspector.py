"""Held-out passages, token by token: what is read without script, and what the script reads."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from probekit.readout import CONCAT, LENS
from probekit.reports.analysis.page_budget import MOST_INSPECTED
from probekit.reports.analysis.rows import TEXT_TARGET, RunRows
from probekit.reports.components.colours import STEPS
from probekit.reports.components.numbers import fixed
from probekit.reports.components.visible_text import NEWLINE, clean, pieces, right_to_left
from probekit.reports.inspector.passages import CEILING, Passages, index_passages, pack

_OFFSET = 2  # shown first: the first offset of which the model says nothing itself
_TITLES = {LENS: "logit lens", CEILING: "the model itself", CONCAT: "all layers at once"}
_DECADES = 3  # from 0.1 % to 100 %: below it, one in a thousand or one in a million look alike
_INERT = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Token:
    """One token of a passage: its pieces, the step of its colour, and the number behind it."""

    pieces: tuple[str, ...]
    step: int | None
    title: str

    @property
    def ends(self) -> bool:
        """Return whether the last of the token is the end of a line."""
        return self.pieces[-2:] == (NEWLINE, "")


@dataclass(frozen=True)
class ShownPassage:
    """One passage: where it is from, and which way it runs."""

    heading: str
    direction: str
    tokens: Sequence[Token]


@dataclass(frozen=True)
class Inspector:
    """What the page shows first, and the data from which its script shows the rest."""

    passages: Sequence[ShownPassage]
    readouts: Sequence[tuple[int, str]]
    state: str
    kept: int | None
    left_out: Sequence[str]
    of_model: bool
    data: Markup


def build_inspector(
    run: RunRows,
    document: Mapping[str, Any] | None,
    maps: Sequence[str],
    room: int = MOST_INSPECTED,
) -> Inspector | None:
    """Build the token inspector of a run.

    Args:
        run: The run.
        document: The content of passages.json, or None for a run without.
        maps: Readouts of the page's maps, in the maps' order.
        room: How many bytes of the page it may take.

    Returns:
        The inspector; None where there is nothing to inspect.

    Raises:
        RunError: If the schema of the passages is not the one that this version reads.
    """
    if document is None:
        return None
    passages = index_passages(document, run, room)
    if not passages.readings:
        return None
    packed = pack(passages)
    first = _first(run, passages)
    shown = [_passage(passages, number, first) for number in range(len(document["passages"]))]
    titles = [_title(passages, name) for name in passages.names]
    packed |= _described(run, passages, first) | {"titles": titles, "maps": list(maps)}
    whole = packed["kept"] >= max(passages.lengths)
    return Inspector(
        shown,
        list(enumerate(titles)),
        _state(run, passages, first),
        None if whole else packed["kept"],
        passages.left_out,
        document["target"] != TEXT_TARGET,
        inert(packed),
    )


def inert(value: object) -> Markup:
    r"""Return JSON that no HTML parser takes for anything but text.

    >>> str(inert("</script>&"))
    '"\\u003c/script\\u003e\\u0026"'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(clean(text).translate(_INERT))


def _first(run: RunRows, passages: Passages) -> tuple[str, int | None, int]:
    """Return what is shown first: the probe at its best layer, two tokens ahead."""
    offsets = sorted({key[2] for key in passages.readings})
    offset = _OFFSET if _OFFSET in offsets else offsets[0]
    name = passages.names[0]
    layers = [key[1] for key in passages.readings if key[0] == name and key[2] == offset]
    numbered = [layer for layer in layers if layer is not None]
    best = run.special(offset, run.domains[0]).get("best_layer") if run.domains else None
    aim = run.n_layers if best is None else best
    return name, min(numbered, key=lambda layer: abs(layer - aim), default=None), offset


def _described(
    run: RunRows, passages: Passages, first: tuple[str, int | None, int]
) -> dict[str, Any]:
    """Return what the script needs to know beside the numbers."""
    name, layer, offset = first
    domains = list(run.domains)
    passage_domains = [passage["domain"] for passage in passages.document["passages"]]
    return {
        "blocks": run.n_layers,
        "names": list(passages.names),
        "layered": [passages.layered(name) for name in passages.names],
        "layers": sorted({key[1] for key in passages.readings if key[1] is not None}),
        "offsets": sorted({key[2] for key in passages.readings}),
        "all": run.domains[:1] == ("all",),
        "domains": [
            domains.index(domain) if domain in domains else -1 for domain in passage_domains
        ],
        "places": [_place(passage) for passage in passages.document["passages"]],
        "starts": [passage["position"] for passage in passages.document["passages"]],
        "text": passages.document["target"] == TEXT_TARGET,
        "first": [passages.names.index(name), layer, offset],
    }


def _title(passages: Passages, name: str) -> str:
    fitted = passages.layered(name) and name not in _TITLES
    title = f"{name} probe" if fitted else _TITLES.get(name, name)
    return clean(title if passages.blind(name) else f"{title} (token-fed)")


def _state(run: RunRows, passages: Passages, first: tuple[str, int | None, int]) -> str:
    """Say what colours are of; the script says the same of what is chosen."""
    name, layer, offset = first
    ranks = [rank for rank in passages.readings[first].rank if rank is not None]
    where = "" if layer is None else f", layer {layer} of {run.n_layers}"
    top = sum(rank == 1 for rank in ranks)
    return (
        f"{_title(passages, name)}{where}, t+{offset}: the target comes first at {top} of "
        f"{len(ranks)} positions."
    )


def _passage(passages: Passages, number: int, key: tuple[str, int | None, int]) -> ShownPassage:
    passage = passages.document["passages"][number]
    texts = tuple(passages.document["vocabulary"][word] for word in passage["tokens"])
    start = sum(passages.lengths[:number])
    reading, offset = passages.readings[key], key[2]
    tokens = [
        _token(text, reading.nats[n], reading.rank[n], offset)
        for n, text in enumerate(texts, start)
    ]
    return ShownPassage(
        f"{_place(passage)}, from token {passage['position']}",
        "rtl" if right_to_left(texts) else "ltr",
        tokens,
    )


def _place(passage: Mapping[str, Any]) -> str:
    number = f"document {passage['document']}"
    name = f"{passage['name']} ({number})" if passage.get("name") else number
    return clean(f"{passage['domain']}, {name}")


def _token(text: str, nats: float | None, rank: int | None, offset: int) -> Token:
    if nats is None or rank is None:
        return Token(pieces(text), None, f"t+{offset}: no target here")
    nats = round(nats, 3)
    return Token(pieces(text), shade(nats), f"t+{offset}: {percent(nats)}, rank {rank:,}")


def shade(nats: float) -> int:
    """Return the step of a target's probability: four steps a factor of ten.

    Args:
        nats: Cross-entropy of the target, in nats.

    >>> [shade(-math.log(p)) for p in (1.0, 0.1001, 0.0001)]
    [11, 8, 0]
    """
    step = math.floor((_DECADES - nats / math.log(10)) * STEPS / _DECADES)
    return min(STEPS - 1, max(0, step))


def percent(nats: float) -> str:
    """Return the probability of a target in two or three digits.

    >>> percent(0.0), percent(3.5), percent(20.0)
    ('100 %', '3.0 %', '< 0.1 %')
    """
    probability = 100 * math.exp(-nats)
    if probability < 0.05:
        return "< 0.1 %"
    return f"{fixed(probability, 0 if probability >= 9.95 else 1)} %"

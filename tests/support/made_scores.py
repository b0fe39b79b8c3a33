"""Scores that were made up, so that what is to be found is known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from probekit.scoring.rates import DocumentSums

Key = tuple[str, int | None, int]

DOCUMENTS = 24
LAYERS = 3
# Nats by cell on test; the best layer at offset 2 is layer 1.
TEST: dict[Key, float] = {
    ("unigram", None, 1): 6.0,
    ("unigram", None, 2): 6.0,
    ("skip-bigram", None, 1): 4.5,
    ("skip-bigram", None, 2): 5.0,
    ("model", None, 1): 2.0,
    ("marginal", None, 2): 3.0,
    **{("lens", layer, 1): nats for layer, nats in enumerate((9.0, 4.0, 2.03, 2.0))},
    **{("linear", layer, 1): nats for layer, nats in enumerate((4.4, 3.0, 2.2, 1.98))},
    **{("linear", layer, 2): nats for layer, nats in enumerate((5.04, 3.5, 3.6, 3.9))},
}
HELD_OUT = ("linear", "unigram", "skip-bigram")
VALIDATION = {key: nats for key, nats in TEST.items() if key[0] in HELD_OUT}


def rows(
    cells: Mapping[Key, float], split: str, positions: str, noise: float, noisy: Sequence[Key]
) -> list[Any]:
    """Return rows of a table; noise differs by cell and document and sums to nothing."""
    found = []
    for (readout, layer, offset), nats in cells.items():
        draw = np.random.default_rng(abs(hash((len(readout), layer or 0, offset))) % 2**32)
        spread = draw.normal(size=DOCUMENTS)
        size = noise if not noisy or (readout, layer, offset) in noisy else 0.0
        for document, extra in enumerate(size * (spread - spread.mean())):
            row = (readout, layer, offset, True, positions, document, 10)
            found.append((*row, 10 * (nats + extra), 10 * math.exp(-nats), 10.0, split))
    return found


def sums(
    test: Mapping[Key, float] = TEST,
    validation: Mapping[Key, float] = VALIDATION,
    noise: float = 0.0,
    domains: list[str] | None = None,
    noisy: Sequence[Key] = (),
    noisy_positions: Sequence[str] = ("all", "marginal"),
    *,
    drawn: Mapping[Key, float] | None = None,
) -> DocumentSums:
    """Return scores of readouts that lose so many nats in every document, but for noise.

    Args:
        test: Nats by cell on test.
        validation: The same on validation.
        noise: Standard deviation over documents, in nats; of `noisy` cells alone if given.
        domains: Domain of each document.
        noisy: Cells.
        noisy_positions: Test positions that the noise is of.
        drawn: Nats on the positions that were marginalized, where they differ from `test`.
    """
    names = "readout layer offset blind positions document n nats_sum top1_sum top5_sum split"
    parts = rows(validation, "validation", "all", noise, noisy)
    for positions in ("all", "marginal"):
        size = noise if positions in noisy_positions else 0.0
        cells = {**test, **(drawn or {})} if positions == "marginal" else test
        parts += rows(cells, "test", positions, size, noisy)
    table = pd.DataFrame(parts, columns=names.split()).astype({"layer": "Int64"})
    # Of t+2 alone, that all of t+2 … are right is that it is.
    joint = table["top1_sum"].where(table["offset"] == 2)
    table = table.assign(seed=0, joint_sum=joint, joint_nats_sum=math.nan)
    return DocumentSums(table, domains or ["prose"] * DOCUMENTS, [1.0] * DOCUMENTS)


def with_cells(cells: Mapping[Key, float]) -> dict[Key, float]:
    """Return the nats on test with other cells."""
    return TEST | dict(cells)


def without(*readouts: str) -> dict[Key, float]:
    """Return the nats on test without some readouts."""
    return {key: nats for key, nats in TEST.items() if key[0] not in readouts}


@dataclass(frozen=True)
class Case:
    """Scores, and what must be said of them.

    Attributes:
        name: What is special.
        cells: What differs from `TEST`, on validation too, as `"readout/layer/offset nats, …"`.
        said: Sentences without their full stop, and cells of the row of t+2, joined by " | ".
        noise: Of all cells, or of `noisy` ones, written alike.
        held: What differs on validation alone.
        dropped: A readout that was not scored.
    """

    name: str
    cells: str
    said: tuple[str, ...]
    noise: float = 0.01
    noisy: str = ""
    held: str = ""
    dropped: str = ""

    def sums(self) -> DocumentSums:
        """Return the scores."""
        changed = TEST | _cells(self.cells)
        test = {key: nats for key, nats in changed.items() if key[0] != self.dropped}
        held = {key: nats for key, nats in changed.items() if key[0] in HELD_OUT}
        noisy = [_key(text) for text in self.noisy.split(", ") if text]
        return sums(test, held | _cells(self.held), self.noise, noisy=noisy)


def case(name: str, cells: str, *said: str, **how: Any) -> Case:
    """Return a case."""
    return Case(name, cells, said, **how)


def _key(text: str) -> Key:
    readout, layer, offset = text.split("/")
    return readout, int(layer) if layer else None, int(offset)


def _cells(text: str) -> dict[Key, float]:
    parts = [part.split(" ") for part in text.split(", ") if part]
    return {_key(key): float(nats) for key, nats in parts}


def said_of(verdict: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentences of a verdict and the cells of the row of t+2, as cases have them."""
    row = next(row for row in rows if row["offset"] == 2)
    best = f"layer {row['best']}" + (f" ({row['alike']})" if row["alike"] else "")
    read = f"{row['read']} beyond {row['floor']}"
    cells = (best, row["read"], read, row["known"], row["share"] or "-", row["late_loss"])
    return " ".join(verdict) + " | " + " | ".join(cells) + " |"


def is_said(words: str, text: str) -> bool:
    """Whether a sentence, or cells, stand whole in what `said_of` returns."""
    return f"{words}." in text or f"| {words} |" in text

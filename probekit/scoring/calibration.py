"""Calibration: whether a readout is as sure as it is right, and what a temperature would mend.

Source: Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks".
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probekit.scoring.positions import TEMPERATURES, TEMPERED

BINS = 10


def reliability(confidence: NDArray[np.float64], hits: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return mean confidence and accuracy in ten bins of as many positions each.

    Args:
        confidence: Largest probability at each position, shape (n,).
        hits: Whether it was right, shape (n,).

    >>> reliability(np.array([0.5, 0.9]), np.array([0.0, 1.0]))[1]
    {'confidence': 0.9, 'top1': 1.0, 'n': 1}
    """
    order = np.argsort(confidence, kind="stable")
    return [
        {
            "confidence": float(confidence[rows].mean()),
            "top1": float(hits[rows].mean()),
            "n": len(rows),
        }
        for rows in np.array_split(order, min(BINS, len(order)))
    ]


def calibration_error(bins: list[dict[str, Any]]) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy.

    It is never 0 on a sample: with n positions a bin about sqrt(p (1 - p) / n) is noise.

    >>> calibration_error([{"confidence": 0.5, "top1": 0.0, "n": 1}])
    0.5
    """
    gaps = [row["n"] * abs(row["confidence"] - row["top1"]) for row in bins]
    return float(sum(gaps) / sum(row["n"] for row in bins))


def temperature(table: pd.DataFrame) -> tuple[float, float]:
    """Return the best temperature, and by how many nats a fitted one helps on other documents.

    Documents are halved by their number: the temperature that suits one half is applied to the
    other, so that no position is scored with what it helped to choose.

    Args:
        table: Rows of one cell of `score_positions`.
    """
    best = TEMPERATURES[int(np.argmin(table[list(TEMPERED)].mean()))]
    halves = [table[table["document"] % 2 == half] for half in (0, 1)]
    if any(half.empty for half in halves):
        return best, 0.0
    gained = 0.0
    for fitted, scored in (halves, halves[::-1]):
        column = TEMPERED[int(np.argmin(fitted[list(TEMPERED)].mean()))]
        plain = TEMPERED[TEMPERATURES.index(1.0)]
        gained += float((scored[plain] - scored[column]).sum())
    return best, gained / len(table)


def calibration_rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield one row a cell: error, reliability, temperature.

    Args:
        table: Rows of `score_positions`.
    """
    for _, cell in table.groupby(["readout", "layer", "offset"], dropna=False, sort=False):
        readout, layer, offset = cell[["readout", "layer", "offset"]].iloc[0]
        bins = reliability(cell["confidence"].to_numpy(), cell["top1"].to_numpy())
        best, gain = temperature(cell)
        yield {
            "readout": readout,
            "layer": None if pd.isna(layer) else int(layer),
            "offset": int(offset),
            "n_positions": len(cell),
            "calibration_error": calibration_error(bins),
            "temperature": best,
            "temperature_gain_nats": gain,
            "bins": bins,
        }

"""Scores of strategies of training heads, made up: documents of equal size."""

from collections.abc import Mapping, Sequence

import pandas as pd

from probekit.scoring.rates import DocumentSums

Nats = Mapping[str, Sequence[float]]


def sums(by_offset: Mapping[int, Nats], n: int = 10) -> DocumentSums:
    """Return scores whose nats by document are given, by offset and strategy.

    Of ten tokens, top-5 misses as many as there are nats.
    """
    listed = [
        {
            "readout": name, "layer": None, "offset": offset, "blind": True,
            "positions": positions, "document": number, "n": n, "nats_sum": value * n,
            "top1_sum": 0.0, "top5_sum": (10 - value) * n / 10, "joint_sum": 0.0,
            "joint_nats_sum": 0.0,
        }
        for offset, nats in by_offset.items()
        for name, values in nats.items()
        for positions in ("all", "marginal")
        for number, value in enumerate(values)
    ]  # fmt: skip
    table = pd.DataFrame(listed).assign(split="test", seed=0).astype({"layer": "Int64"})
    documents = table["document"].nunique()
    return DocumentSums(table, ["words"] * documents, [1.0] * documents)

"""Table 1 of the paper: strategies of training heads, beside the paper's numbers.

What was scored comes from a run of heads: its test positions at which the model was marginalized;
`probekit.protocol.scored` is how any readout is scored on the paper's own positions.

Source: Mehra, Alonso Garcia and Mauch (2025), arXiv 2502.09419v1, table 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from probekit import paper
from probekit.errors import RunError
from probekit.paper import Share
from probekit.reproduce import Row, share_columns

# What is read of a run of heads: sums over the positions at which it marginalized the model.
STRATEGIES = "strategies.csv"
COLUMNS = ("model", "strategy", "offset", "n", "top5_sum")


@dataclass(frozen=True)
class Strategy:
    """What one strategy of training heads scored, summed over the run's marginalized positions.

    Attributes:
        model: The model's name or repository.
        strategy: A key of table 1's rows, or one of ours.
        offset: 1 for the next token, 2 for the second.
        n: Positions.
        top5_sum: Top-5 hits at them.
    """

    model: str
    strategy: str
    offset: int
    n: int
    top5_sum: float


def table_1(scored: Sequence[Strategy]) -> list[Row]:
    """Return table 1's layout: a row a model, strategy and offset, the paper's number beside it.

    >>> rows = table_1([Strategy("EleutherAI/pythia-410m", "joint", 2, 1000, 538.0)])
    >>> rows[0]["top5"], rows[0]["paper_top5"]
    (0.538, 0.538)
    """
    known = {strategy.key: strategy for strategy in paper.strategies()}
    rows = []
    for each in scored:
        model = paper.match(each.model)
        row: Row = {"model": each.model, "paper_model": model.name if model else None}
        row |= {"strategy": each.strategy, "offset": each.offset}
        row |= share_columns("top5", Share.of(each.top5_sum / each.n, each.n))
        of_model = known[each.strategy].top5 if each.strategy in known else {}
        row |= dict.fromkeys(("paper_top5", "paper_top5_low", "paper_top5_high"))
        if model and model.key in of_model:
            n = paper.head("table_1")["n_positions"]
            own = share_columns("paper_top5", Share.of(of_model[model.key][each.offset - 1], n))
            row |= {name: own[name] for name in own if name != "n_positions"}
        rows.append(row)
    return rows


def read(folder: Path) -> list[Strategy]:
    """Read what the strategies of a run of heads scored.

    Raises:
        RunError: If the folder holds no such scores, or they lack a column.
    """
    path = folder / STRATEGIES
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} holds no scores of strategies, which table-1 compares: {error}. It needs "
            f"{STRATEGIES} of a run of `probekit heads`, with the columns {', '.join(COLUMNS)}"
        ) from None
    absent = [name for name in COLUMNS if name not in table]
    if absent or table.empty:
        raise RunError(f"{path} must have rows with the columns {', '.join(COLUMNS)}")
    return [Strategy(**dict(row)) for row in table[list(COLUMNS)].to_dict("records")]  # type: ignore[arg-type]

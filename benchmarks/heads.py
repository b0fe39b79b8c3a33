"""What heads read out of the built-in models, strategy by strategy and layer by layer.

    python benchmarks/heads.py [--output runs/heads]

Trains heads for `tiny` and for `tiny-mtp`, and those of the paper's table 1 for the ladder;
what is finished in the folder is not done again. Writes the tables of docs/heads.md: about
forty minutes on two cores.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pages import DOCS, line, put

from probekit.paper import numbers
from probekit.paper.protocol import EXTENDED, Protocol
from probekit.pipelines.head_study import study_heads
from probekit.pipelines.head_study.settings import BASELINE
from probekit.pipelines.head_study.study_heads import HeadRun
from probekit.pipelines.reproduction import table_1
from probekit.reports.reproduction.page import sentences

STUDIED = ("tiny", "tiny-mtp")
LADDER = ("tiny-s", "tiny", "tiny-l")
OFFSET = 2
Row = Mapping[str, Any]


def main(
    output: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs/heads"),
) -> None:
    """Train, score, and write the tables between the page's comments."""
    studies = [
        study_heads.study_heads(model, output=output / model, say=print) for model in STUDIED
    ]
    runs = [table_1.train(model, {}, output / "table-1", print) for model in LADDER]
    document = table_1.document(runs, Protocol(samples=50), output / "table-1", print)
    orders = [text for text in sentences(document) if "The paper's order" in text]
    parts = {
        "studies": [line for run in studies for line in study(run)],
        "sweep": [line for run in studies for line in sweep(run)],
        "table-1": [*strategies(document["rows"]), "", *(f"- {text}" for text in orders)],
    }
    for name, lines in parts.items():
        put(DOCS / "heads.md", name, lines)


def study(run: HeadRun) -> Iterator[str]:
    """Yield the table of a study at offset 2, and what it found."""
    yield f"### `{run.document['model']['name']}`\n"
    yield line("strategy", "top-5, %", "nats", "nats less the baseline's", "next token, nats lost")
    yield line(*["---"] * 5)
    for row in of(run.document["scores"], domain="all", positions="marginal", offset=OFFSET):
        pair = {"domain": "all", "strategy": row["strategy"], "against": BASELINE}
        difference = of(run.document["differences"], **pair, positions="marginal", offset=OFFSET)
        cost = of(run.document["differences"], **pair, positions="all", offset=1)
        yield line(
            f"`{row['strategy']}`",
            shown(row, "top5", 1, 100.0),
            shown(row, "nats", 3),
            *(shown(rows[0], "nats", 3) if rows else "" for rows in (difference, cost)),
        )
    yield ""
    yield from (f"- {sentence}" for sentence in run.document["verdict"][:-1])
    yield ""


def sweep(run: HeadRun) -> Iterator[str]:
    """Yield what heads and probes read at each layer, and the answer."""
    yield f"### `{run.document['model']['name']}`\n"
    yield line("layer", "linear probe, nats", "block head, nats", "head gains, nats")
    yield line(*["---"] * 4)
    rows = of(run.document["sweep"], domain="all")
    for probe in of(rows, readout="linear"):
        (head,) = of(rows, readout="head", layer=probe["layer"])
        yield line(
            str(probe["layer"]), *(shown(row, "nats", 3) for row in (probe, head)),
            shown(probe, "nats_minus_head", 3),
        )  # fmt: skip
    yield f"\n{run.document['verdict'][-1]}\n"


def strategies(rows: Sequence[Row]) -> Iterator[str]:
    """Yield table 1 of the ladder over all target tokens, both tokens of a model side by side."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    yield line(
        "strategy", *(f"`{model}`: {token}" for model in models for token in ("next", "second"))
    )
    yield line(*["---"] * (1 + 2 * len(models)))
    for strategy in numbers.strategies():
        cells = [
            shown(row, "top5", 3)
            for model in models
            for offset in (1, OFFSET)
            for row in of(
                rows, model=model, strategy=strategy.key, offset=offset, positions=EXTENDED
            )
        ]
        yield line(strategy.name, *cells)


def of(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """Return the rows that have these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def shown(row: Row, name: str, digits: int, scale: float = 1.0) -> str:
    """Return an estimate with its interval."""
    value, low, high = (scale * row[name + end] for end in ("", "_low", "_high"))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    typer.run(main)

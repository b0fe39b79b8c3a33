"""What heads read out of `tiny`, strategy by strategy and layer by layer.

    python benchmarks/heads.py [--output runs/heads/tiny]

Trains heads with three seeds, as the gallery does; what is finished in the folder is not done
again. Writes the tables of docs/heads.md: about a quarter of an hour on two cores.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pages import DOCS, line, put

from probekit.pipelines.head_study import study_heads
from probekit.pipelines.head_study.settings import BASELINE
from probekit.pipelines.head_study.study_heads import HeadRun

EPOCHS, SEEDS = 2, 3
OFFSET = 2
Row = Mapping[str, Any]


def main(
    output: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/heads/tiny"),
) -> None:
    """Train, score, and write the tables between the page's comments."""
    given = {"epochs": EPOCHS, "seeds": SEEDS, "output": output}
    run = study_heads.study_heads("tiny", **given, say=print)
    for name, part in {"study": study, "training": training, "sweep": sweep}.items():
        put(DOCS / "heads.md", name, list(part(run)))


def study(run: HeadRun) -> Iterator[str]:
    """Yield the table of a study at offset 2, and what it found."""
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


def training(run: HeadRun) -> Iterator[str]:
    """Yield at which rate and for how long each strategy was trained, and what was kept."""
    yield line("strategy", "rate of the heads", "step kept", "longest tried", "in orders")
    yield line(*["---"] * 5)
    for row in run.document["training"]:
        steps = [each["step"] for each in of(run.document["curves"], strategy=row["strategy"])]
        kept = row["best_steps"].get(str(OFFSET), row["best_steps"]["1"])
        rate = row["learning_rate"] * row["head_rate_factor"]
        told = row["left_out"] or ("" if row["strategy"] == BASELINE else "yes")
        yield line(f"`{row['strategy']}`", f"{rate:.2g}", str(kept), str(max(steps)), told)


def sweep(run: HeadRun) -> Iterator[str]:
    """Yield what heads and probes read at each layer, and the answer."""
    yield line("layer", "linear probe, nats", "block head, nats", "head gains, nats")
    yield line(*["---"] * 4)
    rows = of(run.document["sweep"], domain="all")
    for probe in of(rows, readout="linear"):
        (head,) = of(rows, readout="head", layer=probe["layer"])
        yield line(
            str(probe["layer"]), *(shown(row, "nats", 3) for row in (probe, head)),
            shown(probe, "nats_minus_head", 3),
        )  # fmt: skip
    yield f"\n{run.document['verdict'][-1]}"


def of(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """Return the rows that have these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def shown(row: Row, name: str, digits: int, scale: float = 1.0) -> str:
    """Return an estimate with its interval."""
    value, low, high = (scale * row[name + end] for end in ("", "_low", "_high"))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    typer.run(main)

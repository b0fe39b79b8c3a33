"""Tables of what was repeated: the paper's numbers beside what was measured, and the training."""

from collections.abc import Sequence

from probekit.paper import numbers
from probekit.reports.components.numbers import compact, fixed, interval, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, absent, word
from probekit.reports.heads.tables import NAMES
from probekit.reports.reproduction.figures import TASKS
from probekit.reports.reproduction.paper_tables import TOKENS, number

SETS = ("last 20", "extended")
NOT_ITS = "the paper does not have this model"


def measured(document: Row) -> Table:
    """Return the table of what was measured, the paper's numbers beside it."""
    build = {"figure-1": _figure_1, "figure-2": _figure_2, "table-1": _table_1}
    return build[document["figure"]](document["rows"])


def _figure_1(rows: Sequence[Row]) -> Table:
    head = (
        "Model", "Text", "Task", "Token", "Last 20 of each sample", "n (samples)", "Extended",
        "n (samples)", "The paper", "Tokens summed over", "The paper, tokens", "Mass kept, least",
    )  # fmt: skip
    keys = dict.fromkeys((row["model"], row["text"], row["offset"]) for row in rows)
    cells = []
    for key in keys:
        row_group = [row for row in rows if (row["model"], row["text"], row["offset"]) == key]
        by_set = {row["positions"]: row for row in row_group}
        first, more = by_set[SETS[0]], by_set.get(SETS[1])
        cells.append(
            [
                word(first["model"]),
                word(first["text"]),
                word(TASKS[first["task"]]),
                word(TOKENS[first["offset"]]),
                _share(first, "top5"),
                _count(first),
                _share(more, "top5", "not asked for"),
                _count(more) if more else absent("not asked for"),
                _share(first, "paper_top5", NOT_ITS),
                number(first, "branches_mean", 0, "the next token needs none"),
                number(first, "paper_branches", 0, NOT_ITS),
                number(first, "mass_min", 3, "the next token needs none"),
            ]
        )
    caption = "Measured: shares with 95 % intervals (last 20: Wilson; extended: over samples)"
    return Table(caption, head, cells)


def _count(row: Row) -> Cell:
    return Cell(f"{compact(row['n_positions'])} ({compact(row['n_samples'])})")


def _share(row: Row | None, name: str, reason: str = "not recorded") -> Cell:
    value = known(row.get(name)) if row else None
    if row is None or value is None:
        return absent(reason)
    return Cell(fixed(value, 3), interval(row, name, 1.0, 3))


def _figure_2(rows: Sequence[Row]) -> Table:
    limit = numbers.source_of("figure_2")["threshold_nats"]
    head = (
        "Model", "Text", "KL at the last backbone layer (nats)", "The paper",
        f"First depth with KL < {limit}", "The paper", "Layer", "Positions", "Samples",
    )  # fmt: skip
    cells = []
    for row in (row for row in rows if row["last"]):
        theirs = known(row["paper_kl_nats"])
        reason = "never" if theirs is not None else NOT_ITS
        cells.append(
            [
                word(row["model"]),
                word(row["text"]),
                _share(row, "kl_nats"),
                number(row, "paper_kl_nats", 1, NOT_ITS),
                number(row, "first_depth", 2, "never"),
                number(row, "paper_first_depth", 2, reason),
                Cell(compact(row["layer"])),
                Cell(compact(row["n_positions"])),
                Cell(compact(row["n_samples"])),
            ]
        )
    return Table("Measured, with 95 % intervals from resampled samples", head, cells)


def _table_1(rows: Sequence[Row]) -> Table:
    several = any("positions" in row for row in rows)
    apart = any(known(row.get("above_baseline")) is not None for row in rows)
    runs = len({(row["model"], row["run"]) for row in rows}) > len({row["model"] for row in rows})
    names = {name: f"{words} (ours)" for name, words in NAMES.items()}
    names |= {strategy.key: strategy.name for strategy in numbers.strategies()}
    head = [*(["Run"] if runs else []), "Model", "Strategy", *(["Positions"] if several else [])]
    for token in TOKENS.values():
        less = [f"{token.capitalize()} less the baseline"] if apart else []
        head += [token.capitalize(), *less, f"{token.capitalize()}, the paper"]
    keys = ("run", "model", "strategy", "positions")
    cells = []
    for key in dict.fromkeys(tuple(row.get(name) for name in keys) for row in rows):
        row_group = [row for row in rows if tuple(row.get(name) for name in keys) == key]
        run, model, strategy, positions = key
        line = [
            *([word(run)] if runs else []),
            word(model),
            word(names.get(str(strategy), strategy)),
        ]
        line += [word(positions)] if several else []
        by_offset = {row["offset"]: row for row in row_group}
        for offset in TOKENS:
            row = by_offset.get(offset)
            against = [_share(row, "above_baseline", "it is the baseline")] if apart else []
            theirs = _share(row, "paper_top5", "the paper does not have such a row")
            line += [_share(row, "top5"), *against, theirs]
        cells.append([*line, _count(row_group[0])])
    caption = "Measured: top-5 with 95 % intervals (last 20: Wilson; extended and differences: "
    return Table(f"{caption}over samples)", [*head, "n (samples)"], cells)


def trained(document: Row) -> Table | None:
    """Return how the heads of table 1 were trained, the paper's beside them."""
    if not document["runs"]:
        return None
    head = (
        "Run", "Model", "Heads", "New ones start", "Steps", "Blocks a step", "Rate", "Epochs",
        "Training documents", "Training tokens", "Seed",
    )  # fmt: skip
    names = ("steps", "step_blocks", "learning_rate", "epochs", "documents", "tokens", "seed")
    rows = [
        [
            *(word(run[name]) for name in ("run", "model", "kind", "init")),
            *(Cell(compact(run[name])) for name in names),
        ]
        for run in document["runs"]
    ]
    its = numbers.source_of("table_1")
    unsaid = absent("the paper does not say")
    theirs = [
        *(word(text) for text in ("the paper", "Pythia", "block", "random")),
        *(Cell(compact(its[name])) for name in ("n_steps", "n_step_samples")),
        absent("its table 2"),
        Cell("1"),
        Cell(compact(its["n_steps"] * its["n_step_samples"])),
        unsaid,
        unsaid,
    ]
    return Table("How the heads were trained", head, [*rows, theirs])

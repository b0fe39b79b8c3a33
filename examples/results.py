"""Measure what docs/results.md says, and write it again.

    python examples/results.py [--output FOLDER] [--no-draft] [MODEL ...] [-- FLAG ...]

The built-in models are always among them; others are given as `probekit analyze --model` takes
them, and what stands behind `--` are flags for their analysis alone, such as their text. Each is
analysed with the causal check, and drafts (with `--no-draft` the built-in ones alone); what is
finished is not repeated.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

import probekit

BUILT_IN = ("tiny-s", "tiny-m", "tiny-l", "tiny-mtp")
DOCS = Path(__file__).parent.parent / "docs"
FIGURE = Path(__file__).parent / "gallery" / "results.png"
DRAFT = ("--drafter", "linear,skip-bigram,prompt-lookup", "--tree", "1", "--prompts", "16")
MARKS = "<!-- measured -->", "<!-- /measured -->"

Row = Mapping[str, Any]


def main() -> None:
    """Run what is missing, and write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs") / "results")
    parser.add_argument("--no-draft", action="store_true")
    parser.add_argument("models", nargs="*")
    own, flags = _split(sys.argv[1:])
    asked = parser.parse_args(own)
    runs, drafts = {}, {}
    for model in (*BUILT_IN, *asked.models):
        name = Path(model).name
        more = () if model in BUILT_IN else flags
        folder, drafted = asked.output / name, asked.output / f"{name}-draft"
        _probekit("analyze", "--model", model, "--causal", "best", "--output", str(folder), *more)
        runs[name] = probekit.load(folder)
        if model in BUILT_IN or not asked.no_draft:
            _probekit("draft", str(folder), "--output", str(drafted), *DRAFT)
            drafts[name] = json.loads((drafted / "draft.json").read_text("utf-8"))
    _draw(runs)
    page = DOCS / "results.md"
    before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    said = "\n".join(tables(runs, drafts))
    page.write_text(f"{before}{MARKS[0]}\n{said}\n{MARKS[1]}{after}", encoding="utf-8")
    print(page)


def tables(runs: Mapping[str, Any], drafts: Mapping[str, Row]) -> Iterator[str]:
    """Yield the lines of the tables: specialization, used or not, where it is read, drafts."""
    yield from _table(
        "What is read of t+2, beyond the current token, and whether the model uses it",
        ("Model", "Parameters", "Best layer", "Read, bits", "Of what the model knows, %",
         "Lost after the best layer, bits", "Taken out, in its turn, nats", "Used?", "Minutes"),
        [_read(name, run.results) for name, run in runs.items()],
    )  # fmt: skip
    yield from _table(
        "Where it is read: bits at t+2 beyond the floor, by what stands there",
        ("Model", "First piece of a word", "Within a word", "Repeated", "Not repeated"),
        [_strata(name, run.results) for name, run in runs.items()],
    )
    yield from _table(
        "What it is worth: chains of three tokens, drafted and verified",
        ("Model", "Linear probes: tokens a pass", "Skip-bigram", "Prompt lookup"),
        [_drafted(name, draft) for name, draft in drafts.items()],
    )


def _read(name: str, results: Row) -> list[str]:
    domain = results["specialization"][0]["domain"]
    special = _one(results["specialization"], domain=domain, offset=2)
    causal = [row for row in results["causal"] if row["best"]]
    used = _one(causal, domain=domain, offset=2, scored_offset=2)
    # Where the output was adapted to the text, of what the model so adapted knows.
    share = "recovered" if special["recovered_adapted"] is None else "recovered_adapted"
    return [
        f"`{name}`",
        f"{results['model']['n_parameters'] / 1e6:.1f} M",
        f"{special['best_layer']} of {results['model']['n_layers']}",
        _span(special, "read_bits"),
        _span(special, share, 100, 0),
        _span(special, "forgotten_bits"),
        f"layer {used['layer']}: {_span(used, 'beyond_nats', 1, 3)}",
        used["verdict"],
        f"{results['run']['seconds'] / 60:.0f}",
    ]


def _strata(name: str, results: Row) -> list[str]:
    domain = results["specialization"][0]["domain"]
    kinds = ("first piece of a word", "within a word", "repeated", "not repeated")
    rows = (_one(results["classes"], domain=domain, offset=2, **{"class": kind}) for kind in kinds)
    return [f"`{name}`", *(_span(row, "read_bits") for row in rows)]


def _drafted(name: str, draft: Row) -> list[str]:
    rows = [row for row in draft["drafters"] if row["domain"] == draft["drafters"][0]["domain"]]
    best = {row["drafter"]: row for row in rows if row["horizon"] == rows[0]["horizon"]}
    names = ("linear", "skip-bigram", "prompt-lookup")
    return [f"`{name}`", *(_span(best[each], "tokens_per_forward") for each in names)]


def _draw(runs: Mapping[str, Any]) -> None:
    """Draw the bits that a probe of each layer reads of t+2, over depth, a line a model."""
    parts = []
    for name, run in runs.items():
        domain = run.results["specialization"][0]["domain"]
        wanted = {"readout": "linear", "offset": 2, "domain": domain, "split": "test"}
        scores = run.scores[run.scores["positions"] == "all"]
        for column, value in wanted.items():
            scores = scores[scores[column] == value]
        depth = scores["layer"].astype(float) / run.results["model"]["n_layers"]
        parts.append(scores.assign(model=name, depth=depth))
    table = pd.concat(parts, ignore_index=True)
    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    sns.lineplot(table, x="depth", y="bits_given_token", hue="model", style="model", ax=axes)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel="layer, as a share of the depth", ylabel="bits of t+2 beyond the token")
    sns.despine()
    plt.savefig(FIGURE, dpi=150)


def _probekit(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "probekit", *command], check=True)


def _split(given: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    end = given.index("--") if "--" in given else len(given)
    return given[:end], given[end + 1 :]


def _one(rows: Sequence[Row], **wanted: Any) -> Row:
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def _span(row: Row, name: str, scale: float = 1.0, digits: int = 2) -> str:
    """Return a number and its interval, as they stand in a table."""
    values = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    if any(value is None or math.isnan(value) for value in values):
        return "-"
    value, low, high = (f"{round(each * scale, digits) + 0.0:.{digits}f}" for each in values)
    return f"{value} [{low}, {high}]"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from (f"\n**{title}.**\n", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}")
    yield from (f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()

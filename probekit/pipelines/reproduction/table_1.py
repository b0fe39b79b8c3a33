"""Table 1 of the paper: strategies of training heads, scored where the paper scores them.

    rows = table_1.measure(Path("runs/tiny-heads"), Protocol(samples=50), Path("runs/table-1"))

What a run of `probekit heads` trained is read again and scored on samples of its test documents:
their last 20 target tokens, and all of their target tokens beside them. Differences to the
finetuned and marginalized model are paired, over samples.

Source: Mehra, Alonso Garcia and Mauch (2025), arXiv 2502.09419v1, table 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probekit import provenance
from probekit.data.documents import Source
from probekit.data.prompted.pair_tokens import Sample
from probekit.paper import numbers
from probekit.paper.means import Mean
from probekit.paper.numbers import PaperModel, Task
from probekit.paper.protocol import (
    EXTENDED,
    NEXT,
    PAPER,
    SECOND,
    Protocol,
    Subject,
    accuracy,
    score_model,
    score_readouts,
)
from probekit.paper.samples import tokenized_samples
from probekit.pipelines.head_study import study_heads
from probekit.pipelines.head_study.settings import BASELINE, FROZEN, HeadSettings
from probekit.pipelines.head_study.study import Study
from probekit.pipelines.head_study.train_strategies import load_trained
from probekit.pipelines.reproduction.document import document as reproduced
from probekit.pipelines.reproduction.figures import Row, share_columns
from probekit.progress import Journal, Say
from probekit.runs.setup import load_model
from probekit.runs.stages import Stages

# What the paper calls the finetuned model: marginalized at the second token.
BASELINE_OF_PAPER = "finetuned-marginalized"
# What strategies are held against, by the name of the column that says how far they are above.
REFERENCES = {"above_baseline": BASELINE_OF_PAPER, "above_heads_only": FROZEN}
COLUMNS = ["readout", "offset", "positions", "document", "n", "top5_sum"]
# The paper's way of training.
PAPERS_WAY = {"init": "random", "epochs": 1, "step_blocks": 64, "rate": "paper-table"}


def train(model: str, given: Mapping[str, Any], folder: Path, say: Say) -> Path:
    """Train heads by every strategy of the table, and return the folder of the run.

    A model of the paper's table is trained as there: one epoch, 64 blocks in a step, the rates
    that it prints, new heads from random weights. Others as `probekit heads` does.

    Args:
        model: Short name, repository or folder.
        given: Settings of `probekit heads`: text, device and the like.
        folder: Where the run's folder is to be.
        say: Called with each line of progress.
    """
    settings = training(model, given)
    # One folder for each way of training: the same call goes on, another one begins anew.
    key = provenance.digest([model, sorted(settings.items())])[:6]
    run = folder / "heads" / f"{Path(model).name}-{key}"
    return study_heads.study_heads(model, output=run, say=say, **settings).folder


def training(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `probekit heads` with which a model's heads are trained."""
    rows = [each.key for each in numbers.strategies() if each.key != BASELINE_OF_PAPER]
    settings = {"strategies": tuple(rows), "sweep": "none", "pair_template": "paper", **given}
    known = numbers.match(model)
    if known is not None and known.key in numbers.source_of("table_1")["models"]:
        settings = PAPERS_WAY | settings
    return settings


def plan(models: Sequence[str], given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what would be trained of each model; models are loaded for it."""
    for model in models:
        settings = HeadSettings.from_mapping({**training(model, given), "model": model})
        yield from study_heads.dry_run(load_model(settings), settings)


def document(runs: Sequence[Path], protocol: Protocol, folder: Path, say: Say) -> Row:
    """Return the document that a report shows: table 1 of some runs of heads.

    Args:
        runs: Folders of finished runs of `probekit heads`.
        protocol: How to score.
        folder: Where strategies that are done are kept.
        say: Called with each line that a person should see.

    Raises:
        RunError: If a run is not finished, or its model or text is another now.
        DataError: If a run's test documents are too short for the protocol.
    """
    rows = [row for run in runs for row in measure(run, protocol, folder, say)]
    trained = [_trained(run) for run in runs]
    texts = [row for run in runs for row in study_heads.load(run).document["text"]]
    sources = dict.fromkeys(Source(row["domain"], row["source"]) for row in texts)
    return reproduced("table-1", rows, list(sources), protocol.samples, trained)


def measure(run: Path, protocol: Protocol, folder: Path, say: Say = lambda _: None) -> list[Row]:
    """Score what a run of heads trained by the paper's protocol.

    Args:
        run: The folder of a finished run of `probekit heads`.
        protocol: How to score.
        folder: Where strategies that are done are kept; the same call goes on behind them.
        say: Called with each line that a person should see.

    Returns:
        A row a strategy, offset and set of positions, with the paper's number beside it.

    Raises:
        RunError: If the run is not finished, or its model or text is another now.
        DataError: If no test document is long enough for the protocol.
    """
    study = study_heads.load_study(run)
    bos = study.setup.loaded.tokenizer.bos_token_id
    own = [document for document in study.setup.documents if document.split == "test"]
    samples = protocol.draw(tokenized_samples(own, bos, protocol.seed))
    count = sum(int(sample.target.sum()) for sample in samples)
    say(f"  {run}: {len(samples)} samples of its test documents, {count:,} target tokens")
    tables = [
        _kept(study, name, samples, protocol, folder, say) for name in study.settings.strategies
    ]
    whole = pd.concat(tables, ignore_index=True)
    about = _about(study) | {"run": run.name}
    return [about | row for row in _rows(whole, protocol, _comparable(study))]


def _kept(
    study: Study, name: str, samples: Sequence[Sample], protocol: Protocol, folder: Path, say: Say
) -> pd.DataFrame:
    """Return the sums of a strategy by sample, from the folder if they are there already."""
    tokens = [[sample.token_ids.tolist(), sample.target.tolist()] for sample in samples]
    causes = [study.stages.fingerprint, name, asdict(protocol), tokens]
    journal = Journal(folder / "log.jsonl", lambda _: None)

    def scored() -> list[Row]:
        say(f"  {name}")
        table = _scored(study, name, samples, protocol)[COLUMNS]
        rows: list[Row] = table.to_dict("records")  # type: ignore[assignment]
        return rows

    return pd.DataFrame(Stages.of(folder / "stages", journal, causes).json(name, scored))


def _scored(study: Study, name: str, samples: Sequence[Sample], protocol: Protocol) -> pd.DataFrame:
    trained = load_trained(study, name)
    subject = Subject(trained.model, trained.backbone.anatomy, name)
    if name == BASELINE:
        table, _ = score_model(subject, samples, protocol)
        return table.assign(readout=BASELINE_OF_PAPER)
    readout = trained.readout(name)
    return score_readouts(subject, samples, {NEXT: [readout], SECOND: [readout]}, protocol)


def _about(study: Study) -> Row:
    """Return the columns that say which model and text the rows are of."""
    documents, known = study.setup.documents, _known(study)
    return {
        "model": _name(study),
        "paper_model": known.name if known else None,
        "text": ", ".join(dict.fromkeys(document.domain for document in documents)),
        "task": _task(study),
    }


def _task(study: Study) -> Task:
    translates = any(document.prompt for document in study.setup.documents)
    return "translation" if translates else "open_ended"


def _name(study: Study) -> str:
    return study.setup.loaded.repository or study.setup.loaded.name


def _known(study: Study) -> PaperModel | None:
    return numbers.match(_name(study))


def _comparable(study: Study) -> PaperModel | None:
    """Return the paper's model if these are its heads: blocks before the last, of translation."""
    settings, before = study.settings, study.setup.anatomy.n_layers - 1
    its = settings.kind == "block" and settings.read in (None, before)
    return _known(study) if its and _task(study) == "translation" else None


def _trained(run: Path) -> Row:
    """Return how the heads of a run were trained."""
    study = study_heads.load(run).document
    settings, curves = study["run"]["settings"], study["curves"]
    # A warm-up comes on top of what all strategies have in common.
    warm = {row["strategy"] for row in curves if row["stage"] == "warm-up"}
    left_out = {row["strategy"]: row.get("left_out") for row in study["training"]}
    return {
        "run": run.name,
        "model": study["model"]["name"],
        # By strategy that takes part in no order, why; unknown where there was no probe to beat.
        "left_out": {name: reason for name, reason in left_out.items() if reason}
        if study["probe"]
        else None,
        **{name: settings[name] for name in ("kind", "init", "epochs", "step_blocks", "seed")},
        "learning_rate": study["training"][0]["learning_rate"],
        "steps": max(row["step"] for row in curves if row["strategy"] not in warm),
        "documents": sum(row["documents"]["train"] for row in study["text"]),
        "tokens": sum(row["tokens"]["train"] for row in study["text"]),
    }


def _rows(table: pd.DataFrame, protocol: Protocol, known: PaperModel | None) -> list[Row]:
    """Return a row a strategy, offset and set of positions.

    Args:
        table: Sums by strategy (`readout`), offset, set of positions and sample.
        protocol: How to score.
        known: The paper's model, if it has this one.
    """
    rows = []
    for name in (PAPER, EXTENDED) if protocol.extended else (PAPER,):
        for strategy in table["readout"].unique():
            for offset in (NEXT, SECOND):
                found = accuracy(table, strategy, offset, name, protocol.seed)
                row: Row = {"strategy": strategy, "offset": offset, "positions": name}
                row |= share_columns("top5", found.share)
                row |= {"interval": found.kind, "n_samples": found.samples}
                own = table[(table["offset"] == offset) & (table["positions"] == name)]
                for label, reference in REFERENCES.items():
                    row |= _share(label, _apart(own, strategy, reference, protocol.seed))
                rows.append(row | _share("paper_top5", _papers(strategy, offset, known)))
    return rows


def _apart(rows: pd.DataFrame, strategy: str, reference: str, seed: int) -> Mean | None:
    """Return a strategy's share of hits minus a reference's, paired over samples."""
    if strategy == reference or reference not in set(rows["readout"]):
        return None
    hits = rows.pivot_table(index="document", columns="readout", values="top5_sum", aggfunc="sum")
    n = rows[rows["readout"] == strategy].set_index("document")["n"].loc[hits.index]
    apart = (hits[strategy] - hits[reference]).to_numpy(np.float64)
    return Mean.bootstrap(apart, n.to_numpy(np.float64), seed)


def _papers(strategy: str, offset: int, known: PaperModel | None) -> Mean | None:
    """Return the paper's number, with the interval of its positions."""
    rows: Mapping[str, Mapping[str, tuple[float, float]]] = {
        each.key: each.top5 for each in numbers.strategies()
    }
    if known is None or known.key not in rows.get(strategy, {}):
        return None
    return Mean.wilson(
        rows[strategy][known.key][offset - 1], numbers.source_of("table_1")["n_positions"]
    )


def _share(name: str, share: Mean | None) -> Row:
    """Return a share and its interval as the columns of a row, null where there is none."""
    values = (None, None, None) if share is None else (share.value, share.low, share.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))

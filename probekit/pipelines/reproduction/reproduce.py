"""Repeat figures 1 and 2 of the paper on models and texts, and write what was found.

    document = reproduce.run(Asked("figure-1"), Path("runs/reproduce-figure-1"))

One model after another; what is finished is kept, by a key of all that could change it, so the
same call goes on where it stopped.

Source: Mehra, Alonso Garcia and Mauch (2025), arXiv 2502.09419v1.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from probekit import files, provenance
from probekit.data import tokenization
from probekit.data.documents import Source, sources
from probekit.data.pairs import USUAL_FIELDS
from probekit.data.texts import Pairs, open_text
from probekit.errors import SettingsError
from probekit.models import loading as models
from probekit.models.anatomy import find_anatomy
from probekit.models.catalogue import family
from probekit.models.loading import Loaded
from probekit.paper import numbers
from probekit.paper.numbers import Task
from probekit.paper.protocol import Protocol, Subject
from probekit.paper.samples import open_samples, pair_samples
from probekit.pipelines.reproduction.figures import Row, Setting, figure_1, figure_2
from probekit.settings import RunSettings

SCHEMA = "probekit.reproduction/1"
FILE = "reproduction.json"
FIGURES = ("figure-1", "figure-2")
LADDER = tuple(model.name for model in family("tiny"))
DEFAULT_TEXT = ("prose=builtin:prose",)
# Of a text, at most so much is read: thousands of positions are a few hundred thousand.
CHARACTERS = 10_000_000


@dataclass(frozen=True)
class Asked:
    """What to repeat, on what.

    Attributes:
        figure: figure-1 or figure-2.
        models: Short names, repositories or folders.
        text: Texts as [NAME=]PATH: pairs if their rows have both fields, else open-ended.
        text_field: Name of the text in a row of open-ended texts.
        fields: Names of source and target in a row of pairs.
        protocol: How it is scored.
        loading: What `models.load` takes: dtype, device, trust_remote_code.

    Raises:
        SettingsError: If the figure is unknown, or there is no model.
    """

    figure: str
    models: Sequence[str] = LADDER
    text: Sequence[str] = DEFAULT_TEXT
    text_field: str = RunSettings.text_field
    fields: tuple[str, str] = USUAL_FIELDS
    protocol: Protocol = field(default_factory=Protocol)
    loading: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.figure not in FIGURES:
            raise SettingsError(f"figure must be one of {', '.join(FIGURES)}, got {self.figure!r}")
        if not self.models:
            raise SettingsError("--model must name one model at least, got none")


@dataclass(frozen=True)
class Text:
    """A text as read, once for all models.

    Attributes:
        source: Where it is from.
        task: What kind of text.
        items: Its pairs (`Pair`), or its documents (`Document`).
    """

    source: Source
    task: Task
    items: Sequence[Any]


def run(asked: Asked, folder: Path, say: Callable[[str], None]) -> Row:
    """Measure every model on every text and return the document that a report shows.

    Args:
        asked: What to repeat.
        folder: Where finished models are kept.
        say: Called with each line that a person should see.

    Raises:
        ModelError: If a model cannot be loaded or understood.
        DataError: If a text cannot be read, or has no sample that is long enough.
        RunError: If the folder cannot be written.
    """
    measure = {"figure-1": figure_1, "figure-2": figure_2}[asked.figure]
    rows: list[Row] = []
    texts = [_read(source, asked) for source in sources(asked.text)]
    for name in dict.fromkeys(asked.models):
        loaded = models.load(name, **asked.loading)
        digest = models.fingerprint(loaded)
        for setting in _settings(loaded, texts, asked.protocol):
            rows += _kept_rows(setting, asked, folder, digest, measure, say)
    return document(asked.figure, rows, [each.source for each in texts], asked.protocol.samples)


def _read(source: Source, asked: Asked) -> Text:
    opened = open_text(source, asked.text_field, asked.fields)
    task: Task = "translation" if isinstance(opened, Pairs) else "open_ended"
    return Text(source, task, opened.take(max_characters=CHARACTERS))


def _settings(loaded: Loaded, texts: Sequence[Text], asked: Protocol) -> Iterator[Setting]:
    subject = Subject(loaded.model, find_anatomy(loaded.model), loaded.name)
    # A branch stands one place behind the last position asked from, inside the sample.
    longest = models.longest(loaded.model)
    for each in texts:
        if each.task == "translation":
            made = pair_samples(each.items, loaded.tokenizer, asked.seed, longest)
        else:
            pieces, _ = tokenization.pieces(each.items, loaded.tokenizer)
            made = open_samples(pieces, loaded.tokenizer, asked.seed, longest)
        yield Setting(loaded, subject, each.source, each.task, asked.draw(made))


def _kept_rows(
    setting: Setting,
    asked: Asked,
    folder: Path,
    fingerprint: str,
    measure: Callable[[Setting, Protocol], list[Row]],
    say: Callable[[str], None],
) -> list[Row]:
    """Return the rows of one model and text, from the folder if they are there already."""
    tokens = [[s.token_ids.tolist(), s.target.tolist()] for s in setting.samples]
    key = provenance.digest(
        [
            asked.figure,
            asdict(asked.protocol),
            fingerprint,
            str(setting.loaded.device),
            dict(provenance.versions()),
            setting.columns(),
            tokens,
        ]
    )
    path = folder / "stages" / f"{setting.loaded.name.replace('/', '--')[-40:]}-{key[:16]}.json"
    where = f"{setting.loaded.name} on {setting.source.domain}"
    if path.exists():
        say(f"  {where}: kept from before")
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return rows
    count = sum(int(sample.target.sum()) for sample in setting.samples)
    say(f"  {where}: {len(setting.samples)} samples, {count:,} target tokens")
    rows = measure(setting, asked.protocol)
    files.write_text(path, json.dumps(rows, allow_nan=False))
    return rows


def document(
    figure: str,
    rows: Sequence[Row],
    sources: Sequence[Source],
    samples: int,
    runs: Sequence[Row] = (),
) -> Row:
    """Return what a report shows: the rows, the paper's own, and what was decided.

    Args:
        figure: figure-1, figure-2 or table-1.
        rows: What was measured.
        sources: The texts.
        samples: Samples that were asked for.
        runs: Of table 1, how the heads were trained.
    """
    names = list(dict.fromkeys(row["model"] for row in rows))
    strangers = [name for name in names if not _is_papers(rows, name)]
    return {
        "schema": SCHEMA,
        "figure": figure,
        "command": provenance.command(),
        "versions": dict(provenance.versions()),
        "texts": [asdict(source) for source in sources],
        "strangers": strangers,
        "samples": samples,
        "runs": list(runs),
        "choices": [list(pair) for pair in numbers.choices(figure)],
        "rows": list(rows),
    }


def _is_papers(rows: Sequence[Row], name: str) -> bool:
    return any(row["model"] == name and row["paper_model"] for row in rows)


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """Write reproduction.json, table.csv, table.md, the figure and report.html; return the last.

    Raises:
        RunError: If the folder cannot be written.
    """
    from probekit.reports.reproduction import page as reproduction

    files.write_text(folder / FILE, files.as_json(found))
    csv = pd.DataFrame(found["rows"]).to_csv(index=False, lineterminator="\n")
    files.write_text(folder / "table.csv", csv)
    files.write_text(folder / "table.md", reproduction.markdown(found))
    for name, content in reproduction.figure_files(found).items():
        files.write(folder / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    report = folder / "report.html"
    files.write_text(report, reproduction.render(found))
    return report

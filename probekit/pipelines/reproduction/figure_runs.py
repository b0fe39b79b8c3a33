"""Measure figures 1 and 2 of the paper on models and texts, one model after another.

What is finished is kept, by a key of all that could change it, so the same call goes on where it
stopped.

Source: Mehra, Alonso Garcia and Mauch (2025), arXiv 2502.09419v1.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from probekit.data import tokenization
from probekit.data.documents import Source, sources
from probekit.data.prompted.pairs import USUAL_FIELDS
from probekit.data.texts import Chats, Pairs, open_text
from probekit.errors import DataError, SettingsError
from probekit.models import loading as models
from probekit.models.anatomy import find_anatomy
from probekit.models.catalogue import family
from probekit.models.loading import Loaded
from probekit.paper.numbers import Task
from probekit.paper.protocol import Protocol, Subject
from probekit.paper.samples import open_samples, pair_samples
from probekit.pipelines.reproduction.document import document
from probekit.pipelines.reproduction.figures import Row, Setting, figure_1, figure_2
from probekit.progress import Journal, Say
from probekit.runs.stages import Stages
from probekit.settings import RunSettings

MEASURED: Mapping[str, Callable[[Setting, Protocol], list[Row]]] = {
    "figure-1": figure_1,
    "figure-2": figure_2,
}
LADDER = tuple(model.name for model in family("tiny"))
DEFAULT_TEXT = ("prose=builtin:prose",)
# Of a text, at most so much is read: thousands of positions are a few hundred thousand.
CHARACTERS = 10_000_000


@dataclass(frozen=True)
class FigureRequest:
    """What to repeat, on what.

    Attributes:
        figure: figure-1 or figure-2.
        models: Short names, repositories or folders.
        text: Texts as [NAME=]PATH: pairs if their rows have both fields, else open-ended.
        text_field: Name of the text in a row of open-ended texts.
        fields: Names of source and target in a row of pairs.
        protocol: How it is scored.
        loading: What `models.load` takes: dtype, device, trust_remote_code, quantization.

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
        if self.figure not in MEASURED:
            raise SettingsError(f"figure must be one of {', '.join(MEASURED)}, got {self.figure!r}")
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


def run(request: FigureRequest, folder: Path, say: Say) -> Row:
    """Measure every model on every text and return the document that a report shows.

    Args:
        request: What to repeat.
        folder: Where finished models are kept.
        say: Called with each line that a person should see.

    Raises:
        ModelError: If a model cannot be loaded or understood.
        DataError: If a text cannot be read, or has no sample that is long enough.
        RunError: If the folder cannot be written.
    """
    rows: list[Row] = []
    texts = [_read(source, request) for source in sources(request.text)]
    names = list(dict.fromkeys(request.models))
    number = 0
    for name in names:
        loaded = models.load(name, **request.loading)
        digest = models.fingerprint(loaded)
        for setting in _settings(loaded, texts, request.protocol):
            number += 1
            say(f"  {_about(setting)} ({number} of {len(names) * len(texts)})")
            rows += _rows(setting, request, digest, folder / "stages", say)
    return document(request.figure, rows, [each.source for each in texts], request.protocol.samples)


def plan(request: FigureRequest) -> list[str]:
    """Return what would be measured, a line a model and text; models are loaded for it."""
    texts = [_read(source, request) for source in sources(request.text)]
    return [
        _about(setting)
        for name in dict.fromkeys(request.models)
        for setting in _settings(models.load(name, **request.loading), texts, request.protocol)
    ]


def _about(setting: Setting) -> str:
    count = sum(int(sample.target.sum()) for sample in setting.samples)
    where = f"{setting.loaded.name} on {setting.source.domain}"
    return f"{where}: {len(setting.samples)} samples, {count:,} target tokens"


def _read(source: Source, request: FigureRequest) -> Text:
    opened = open_text(source, request.text_field, request.fields)
    if isinstance(opened, Chats):
        raise DataError(f"{source.location} holds chats; the paper's texts are pairs and documents")
    task: Task = "translation" if isinstance(opened, Pairs) else "open_ended"
    return Text(source, task, opened.take(max_characters=CHARACTERS))


def _settings(loaded: Loaded, texts: Sequence[Text], protocol: Protocol) -> Iterator[Setting]:
    subject = Subject(loaded.model, find_anatomy(loaded.model), loaded.name)
    # A branch stands one place behind the last position asked from, inside the sample.
    longest = models.longest(loaded.model)
    for each in texts:
        if each.task == "translation":
            made = pair_samples(each.items, loaded.tokenizer, protocol.seed, longest)
        else:
            pieces, _ = tokenization.pieces(each.items, loaded.tokenizer)
            made = open_samples(pieces, loaded.tokenizer, protocol.seed, longest)
        drawn = protocol.draw(made)
        for sample in drawn:
            models.require_rows(loaded, sample.token_ids.tolist())
        yield Setting(loaded, subject, each.source, each.task, drawn)


def _rows(
    setting: Setting, request: FigureRequest, fingerprint: str, stages: Path, say: Say
) -> list[Row]:
    """Return the rows of one model and text, from the folder if they are there already."""
    tokens = [[s.token_ids.tolist(), s.target.tolist()] for s in setting.samples]
    device, protocol = str(setting.loaded.device), asdict(request.protocol)
    causes = [request.figure, protocol, fingerprint, device, setting.columns(), tokens]
    kept = Stages.of(stages, Journal(stages.parent / "log.jsonl", lambda _: None), causes)
    name = setting.loaded.name.replace("/", "--")[-40:]
    if kept.path(f"{name}.json").exists():
        say("  kept from before")
    rows: list[Row] = kept.json(name, partial(MEASURED[request.figure], setting, request.protocol))
    return rows

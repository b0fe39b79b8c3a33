"""What a person reads of an analysis, case by case: of real small runs, and of made-up scores."""

import contextlib
import html
import io
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

import probekit
from probekit.cli import main, printing
from probekit.pipelines.analysis import more_text
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.analysis.verdict import Beside, findings
from probekit.pipelines.calibration.planted_signal import Planted
from support import tiny_run
from support.made_scores import LAYERS, case

QUICK = {**tiny_run.SETTINGS, "controls": "none"}
PLANTED = Planted(n_layers=3, planted_layer=1, erased_layer=2)
# A number with its sign, which may vary in its last digits from machine to machine.
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def random_words() -> list[str]:
    """Return 100 documents of 80 words out of 50, of which nothing follows from anything."""
    chance = random.Random(0)
    return [" ".join(f"w{chance.randrange(50)}" for _ in range(80)) for _ in range(100)]


def strange_words() -> list[str]:
    """Return documents in which each word follows from the one before, as no model here knows."""
    chance, found = random.Random(0), []
    for _ in range(120):
        words = [chance.randrange(tiny_run.WORDS)]
        for _ in range(49):
            words.append((words[-1] * 11 + 5) % tiny_run.WORDS)
        found.append(" ".join(f"w{word}" for word in words))
    return found


def planted(folder: Path) -> Run:
    """Return a run of a model whose layer 1 holds what its later layers erase."""
    ids = PLANTED.sample(120, 40, torch.Generator().manual_seed(0)).tolist()
    file = tiny_run.jsonl(folder / "planted.jsonl", [" ".join(map(str, row)) for row in ids])
    words = Tokenizer(WordLevel({str(n): n for n in range(PLANTED.n_tokens)}, unk_token="0"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    given = {key: value for key, value in QUICK.items() if key != "device"}
    given |= {"block": 40, "max_branches": 8, "separator": "none", "text": (str(file),)}
    return probekit.analyze(PLANTED.model(), tokenizer=tokenizer, **given, output=folder / "run")


def on(texts: list[str]) -> Callable[[Path, str], Run]:
    """Return what analyses the tiny trained model on texts, in a folder."""

    def run(folder: Path, model: str) -> Run:
        file = tiny_run.jsonl(folder / "words.jsonl", texts)
        given = QUICK | {"model": model, "text": (str(file),)}
        return probekit.analyze(**given, output=folder / "run")

    return run


# What was done, and what does it.
RUNS: Mapping[str, tuple[str, Callable[[Path, str], Run]]] = {
    "random words": (
        "A model of two blocks on 100 documents of 80 words out of 50: nothing can be foreseen.",
        on(random_words()),
    ),
    "text that it does not know": (
        "The same model on words each of which follows from the one before by another rule.",
        on(strange_words()),
    ),
    "two test documents": ("The same model on eight documents.", on(tiny_run.documents(8))),
    "a late loss": (
        "A model whose layer 1 holds t+2, and whose later layers erase it, by design.",
        lambda folder, _: planted(folder),
    ),
}
# Made-up scores: what differs from `made_scores.TEST`, where layer 1 of 3 is the best at t+2.
SCORES = {
    "made up: everything is clear": case("", ""),
    "made up: the best layer ties with the last": case("", "linear/3/2 3.5"),
    "made up: the last layer is the best": case("", "linear/3/2 3.4"),
    "made up: no ceiling": case("", "", dropped="marginal"),
    "made up: an adapted output": case("", "marginal-adapted//2 2.5"),
    "made up: behind counting, its output adapted": case(
        "", "model//1 4.8, marginal-adapted//2 3.2"
    ),
    "made up: behind counting": case("", "model//1 4.8, lens/3/1 4.8"),
    "made up: a model that knows nothing, perhaps": case(
        "", "model//1 6.0, lens/3/1 6.0, skip-bigram//1 6.0, linear/3/1 6.0", noise=0.3
    ),
    "made up: not clear of nothing": case(
        "", "linear/1/2 4.9, linear/2/2 4.95, linear/3/2 4.96", noise=0.4
    ),
    "made up: no layer reads it": case(
        "", "linear/0/2 6.0, linear/1/2 6.0, linear/2/2 6.0, linear/3/2 6.0"
    ),
}


def learning(gain: float, read_gain: float, low: float) -> list[dict[str, Any]]:
    """Return rows of `learning` of the best probe at t+2: what half of the text gave."""
    row = {"domain": "prose", "offset": 2, "role": "best", "one_in": 1, "read_bits": 0.7}
    row |= {"read_bits_low": 0.5}
    row |= {"gain_nats": gain, "gain_nats_low": gain - 0.02, "gain_nats_high": gain + 0.02}
    row |= {"read_gain_bits": read_gain, "read_gain_bits_low": low}
    row["read_gain_bits_high"] = 2 * read_gain - low
    return [row]


LEARNING = {
    "made up: more text would raise it": learning(0.12, 0.1, 0.06),
    "made up: the probes still learn, and the floor as much": learning(0.12, 0.01, -0.03),
    "made up: nobody can tell": learning(0.02, 0.05, -0.1),
}


def terminal(document: Mapping[str, Any]) -> list[str]:
    """Return what a terminal shows of a document."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        printing.show(document, main._offsets(document["offsets"]))
    return [line.rstrip() for line in printed.getvalue().splitlines() if line.strip()]


def captions(page: str) -> list[str]:
    """Return the sentences that stand under the figures of a page."""
    found = re.findall(r'<figcaption class="fine"><bdi>(.*?)</bdi>', page)
    return [f"  figure: {html.unescape(words)}" for words in found]


def of_scores() -> Iterator[tuple[str, list[str]]]:
    """Yield the cases of made-up scores, each with what is read."""
    for name, made in SCORES.items():
        found = findings(made.sums(), LAYERS, 2)
        shown = {"verdict": found.verdict, "offsets": found.offsets, "warnings": found.warnings}
        yield name, terminal(shown)
    for name, rows in LEARNING.items():
        clauses = more_text.clauses(rows)
        found = findings(case("", "").sums(), LAYERS, 2, Beside({}, clauses))
        yield name, [found.verdict[0], *more_text.sentences(rows)]


def of_run(name: str, folder: Path, model: str) -> list[str]:
    """Return what is read of a real run."""
    what, analyse = RUNS[name]
    folder.mkdir()
    run = analyse(folder, model)
    page = run.report.read_text(encoding="utf-8")
    return [what, *terminal(run.results), *captions(page)]


def alike(one: str, other: str) -> bool:
    """Whether two texts say the same: the same words, and numbers that are close."""
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    found = [[float(n.replace(",", "")) for n in NUMBER.findall(text)] for text in (one, other)]
    pairs = zip(*found, strict=True)
    return all(abs(a - b) <= max(0.05, 0.05 * abs(a)) for a, b in pairs)

"""What stands between documents is a token that the model knows."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import probekit
from probekit.data.separator import asked_for, candidates
from probekit.errors import SettingsError
from probekit.models.loading import load, wrap
from probekit.pipelines.analysis import analyze
from probekit.pipelines.calibration.markov import MarkovChain
from probekit.runs.setup import Setup, prepare
from probekit.settings import Settings
from support import tiny_run
from support.worlds import chain

WORDS, BOS, EOS = 6, 6, 7
GUESS = torch.tensor(8.0).log().item()


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    names = [*(f"w{n}" for n in range(WORDS)), "<s>", "</s>"]
    words = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def with_ends() -> MarkovChain:
    """Return a chain of two tokens whose documents are parted by BOS; eos is all but unknown."""
    words = chain(WORDS, order=2, zeros=False).transition
    probs = torch.full((8, 8, 8), 1e-12, dtype=torch.float64)
    probs[:WORDS, :WORDS, :WORDS], probs[:WORDS, :WORDS, BOS] = words * 0.85, 0.15
    # Behind BOS, and behind its first word, a document begins anew; so it does behind eos.
    probs[:, BOS:, :WORDS] = words[0, 0]
    probs[BOS:, :WORDS, :WORDS] = words[1]
    return MarkovChain(probs / probs.sum(-1, keepdim=True))


def model(disturbing: bool) -> LlamaForCausalLM:
    """Return the model of the chain; a disturbing eos draws all attention behind it."""
    written = with_ends().model()
    if disturbing:
        embedding: Any = written.get_input_embeddings()
        with torch.no_grad():
            embedding.weight[EOS, :8] = 1e3
    return written


def documents(count: int) -> list[list[int]]:
    """Draw texts that begin behind BOS and end before the next one."""
    probs, draw, found = with_ends().transition, torch.Generator().manual_seed(0), []
    for _ in range(count):
        ids = [BOS, int(torch.multinomial(probs[0, BOS], 1, generator=draw))]
        while len(ids) < 40 and ids[-1] < WORDS:
            ids.append(int(torch.multinomial(probs[ids[-2], ids[-1]], 1, generator=draw)))
        if len(ids) > 4:
            found.append([token for token in ids if token < WORDS])
    return found


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    texts = [" ".join(f"w{n}" for n in ids) for ids in documents(250)]
    return str(tiny_run.jsonl(tmp_path_factory.mktemp("chain") / "words.jsonl", texts))


def prepared(of: LlamaForCausalLM, text: str, **more: Any) -> Setup:
    words = tokenizer(bos_token="<s>", eos_token="</s>")
    settings = Settings(text=(text,), block=64, device="cpu", **more)
    return prepare(wrap(of, words), settings)


def exact(setup: Setup) -> float:
    """Return what the test part's words cost the chain, each document by itself."""
    probs = with_ends().transition
    nats = [
        -float(probs[before, now, then].log())
        for document in setup.documents
        if document.split == "test"
        for (before, now), then in zip(
            pairwise([BOS, *document.ids]), document.ids[1:], strict=False
        )
    ]
    return sum(nats) / len(nats)


@torch.no_grad()
def seen(setup: Setup) -> float:
    """Return what the test part's words cost the model where they are packed."""
    blocks = setup.blocks["test"]
    where = blocks.valid(1) & (blocks.targets(1) < WORDS)
    log_probs = setup.loaded.model(blocks.token_ids).logits.log_softmax(-1)
    return -float(log_probs[where].gather(1, blocks.targets(1)[where][:, None]).mean())


def test_bos_parts_documents_where_the_end_token_disturbs(text: str) -> None:
    setup = prepared(model(disturbing=True), text)
    assert setup.parting.separator == replace(setup.parting.separator, kind="bos", scored=True)
    assert seen(setup) == pytest.approx(exact(setup), abs=0.03)
    assert seen(prepared(model(disturbing=True), text, separator="eos")) > exact(setup) + 0.1
    clean = prepared(model(disturbing=False), text, separator="bos")
    assert seen(setup) == pytest.approx(seen(clean), abs=1e-6)


def test_an_end_token_that_the_model_never_saw_is_no_target(text: str) -> None:
    setup = prepared(model(disturbing=False), text)
    assert setup.parting.separator.kind == "eos"
    assert not setup.parting.separator.scored
    assert setup.parting.end_nats > 20 > GUESS > 2
    assert not any((part.targets(1)[part.valid(1)] == EOS).any() for part in setup.blocks.values())
    assert seen(setup) == pytest.approx(exact(setup), abs=0.03)


def test_what_was_chosen_is_told_and_keys_what_is_finished(text: str, tmp_path: Path) -> None:
    words = tokenizer(bos_token="<s>", eos_token="</s>")
    settings: Any = {
        "text": (text,), "block": 64, "controls": "none", "offsets": 2,
        "marginal_positions": 8, "max_tokens": 2000, "layers": (0,),
    }  # fmt: skip
    run = probekit.analyze(
        model(disturbing=True), tokenizer=words, output=tmp_path / "run", **settings
    )
    assert run.settings.separator == "auto"
    assert run.results["run"]["separator"] == "bos"
    (row,) = [check for check in run.results["checks"] if check["name"] == "separator"]
    assert row["passed"]
    assert "Documents are parted by BOS (--separator auto)." in row["message"]
    assert "it is a target" in row["message"]
    forced = analyze.examine(
        wrap(model(disturbing=True), words), Settings(separator="eos", **settings)
    )
    (check,) = [check for check in forced if check.name == "separator"]
    assert not check.passed
    assert check.message.endswith("Ask for --separator auto instead of eos.")


def test_the_built_in_model_keeps_its_end_token() -> None:
    loaded = load("tiny-s", device="cpu")
    parting = prepare(loaded, Settings(model="tiny-s", max_tokens=4000)).parting
    assert (parting.separator.kind, parting.separator.scored) == ("eos", True)
    assert parting.nats["none"] > parting.nats["eos"] + 0.03
    # By itself a document costs least: what came before it is of another one.
    assert 0 < parting.nats["eos"] - parting.alone < 0.2


CANDIDATES = [
    ({"bos_token": "<s>", "eos_token": "</s>"}, ["eos", "bos", "none"]),
    ({"bos_token": "<s>"}, ["bos", "none"]),
    ({"eos_token": "</s>"}, ["eos", "none"]),
    ({"bos_token": "</s>", "eos_token": "</s>"}, ["eos", "none"]),
    ({}, ["none"]),
]


@pytest.mark.parametrize(("special", "kinds"), CANDIDATES)
def test_a_tokenizer_offers_the_tokens_that_it_has(
    special: dict[str, str], kinds: Sequence[Any], text: str
) -> None:
    words = tokenizer(**special)
    assert [separator.kind for separator in candidates(words)] == kinds
    setup = prepare(wrap(model(disturbing=False), words), Settings(text=(text,), block=64))
    assert setup.parting.separator.kind in kinds
    assert set(setup.parting.nats) == set(kinds)


def test_asking_for_a_token_that_is_not_there_says_which_are() -> None:
    with pytest.raises(SettingsError, match=r"no eos token. Ask for auto or bos or none"):
        asked_for("eos", tokenizer(bos_token="<s>"))
    with pytest.raises(SettingsError, match=r"no bos token. Ask for auto or eos or none"):
        asked_for("bos", tokenizer(eos_token="</s>"))
    one = tokenizer(bos_token="</s>", eos_token="</s>")
    assert asked_for("bos", one) == asked_for("eos", one)

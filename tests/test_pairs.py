"""Pairs, their template, and which tokens are the target's."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_run
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from probekit import pairs
from probekit.catalogue import HERE
from probekit.errors import DataError, ModelError
from probekit.pairs import Pair, Sample
from probekit.text import Document

GERMAN = "Der alte Mann saß an der Küste und sah den Schiffen nach, bis es dunkel wurde."
ENGLISH = "The old man sat by the coast, watching the ships - naïve, they said - until it was dark."


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerBase:
    """Return a byte-level BPE whose tokens hold the space before a word."""
    return AutoTokenizer.from_pretrained(HERE / "bundled" / "tiny-s")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerBase:
    return tiny_run.tokenizer()


def jsonl(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("target", [ENGLISH, "ünïted naïve words", "3 apples", '"Quoted" text'])
def test_the_mask_is_exactly_the_tokens_of_the_target(
    bpe: PreTrainedTokenizerBase, target: str
) -> None:
    made = pairs.sample(Pair("line 1", GERMAN, target), bpe)
    whole = pairs.TEMPLATE.format(source=GERMAN) + target
    assert bpe.decode(made.token_ids[1:]) == whole
    # The space before it is in the first of them, or is a token of the prompt's.
    space = " " if target[0].isascii() else ""
    assert bpe.decode(made.token_ids[made.target]) == space + target
    asked = bpe.decode(made.token_ids[1:][~made.target[1:]])
    assert asked == whole.removesuffix(space + target)
    # One run that ends with the sample: nothing inside is left out.
    assert made.target.int().diff().tolist().count(1) == 1
    assert made.target[-1]


def test_the_first_token_of_the_target_is_not_lost_where_it_holds_the_space(
    bpe: PreTrainedTokenizerBase,
) -> None:
    made = pairs.sample(Pair("line 1", GERMAN, ENGLISH), bpe)
    prompt = pairs.TEMPLATE.format(source=GERMAN)
    naive = len(bpe(prompt, add_special_tokens=False)["input_ids"]) + 1  # and BOS
    first = int(made.target.nonzero()[0])
    assert first == naive - 1  # the prompt alone ends with a token of its space
    assert bpe.decode(made.token_ids[first]) == " The"


def test_a_tokenizer_that_drops_spaces_masks_the_same_words(words: PreTrainedTokenizerBase) -> None:
    target = " ".join(f"w{n}" for n in range(5))
    made = pairs.sample(Pair("line 1", "w9", target), words)
    assert words.convert_ids_to_tokens(made.token_ids[made.target].tolist()) == target.split()
    assert made.token_ids[0] == tiny_run.BOS
    assert not made.target[0]


def test_the_template_is_the_papers() -> None:
    assert pairs.TEMPLATE.format(source="Ja.") == (
        "Translate the following German sentence to English: Ja.\n---\nTranslated: "
    )


def test_the_last_twenty_are_the_last_of_the_target() -> None:
    target = torch.tensor([False] * 5 + [True] * 25)
    made = Sample("line 1", torch.arange(30), target)
    assert made.last(20).nonzero()[:, 0].tolist() == list(range(10, 30))
    for offset in (1, 2):
        asked_from = pairs.asking(made.last(20), offset).nonzero()[:, 0]
        assert (asked_from + offset).tolist() == list(range(10, 30))
    with pytest.raises(DataError, match="its target has 25 tokens, 26 are needed"):
        made.last(26)


def test_short_targets_and_long_samples_are_left_out(
    tmp_path: Path, words: PreTrainedTokenizerBase
) -> None:
    rows = [{"source": "w1", "target": " ".join(["w2"] * n)} for n in (19, 20, 21, 60)]
    location = jsonl(tmp_path / "a.jsonl", *rows)
    fields = ("source", "target")
    made = list(pairs.pair_samples(location, fields, words, seed=0))
    assert sorted(int(each.target.sum()) for each in made) == [20, 21, 60]
    longest = min(len(each.token_ids) for each in made) + 1
    made = list(pairs.pair_samples(location, fields, words, seed=0, longest=longest))
    assert sorted(int(each.target.sum()) for each in made) == [20, 21]
    short = jsonl(tmp_path / "b.jsonl", rows[0])
    with pytest.raises(DataError, match=r"no target has 20 tokens or more \(1 pairs\)"):
        list(pairs.pair_samples(short, fields, words, seed=0))


def test_samples_are_chosen_by_seed(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    rows = [{"source": f"w{n}", "target": " ".join(["w2"] * 20)} for n in range(12)]
    location = jsonl(tmp_path / "a.jsonl", *rows)
    orders = [
        [each.name for each in pairs.pair_samples(location, ("source", "target"), words, seed)]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_open_texts_are_cut_and_asked_from_their_first_token(
    words: PreTrainedTokenizerBase,
) -> None:
    texts = [Document("a", f"{n}", " ".join(["w3"] * n)) for n in (99, 100, 300)]
    made = {each.name: each for each in pairs.open_samples(texts, words, seed=0)}
    assert {name: len(each.token_ids) - 1 for name, each in made.items()} == {
        "100": 100,
        "300": 200,
    }
    assert made["100"].target.nonzero()[0].item() == 3  # BOS and two tokens stand before it
    assert pairs.asking(made["100"].target, 2).nonzero()[0].item() == 1  # not from BOS
    with pytest.raises(DataError, match="no text has 100 tokens"):
        list(pairs.open_samples(texts[:1], words, seed=0))


def test_fields_may_be_nested_and_empty_sides_are_left_out(tmp_path: Path) -> None:
    rows = [{"translation": {"de": "Ja", "en": target}} for target in ("Yes", " ", "Yes.")]
    location = jsonl(tmp_path / "a.jsonl", *rows)
    fields = ("translation.de", "translation.en")
    found = list(pairs.read(location, *fields))
    assert [(pair.name, pair.target) for pair in found] == [("line 1", "Yes"), ("line 3", "Yes.")]
    assert pairs.holds_pairs(location, *fields)
    assert not pairs.holds_pairs(location, "source", "target")
    assert not pairs.holds_pairs("builtin:prose", *fields)
    assert not pairs.holds_pairs(str(tmp_path / "none.jsonl"), *fields)


def test_pairs_of_parquet_are_those_of_jsonl(tmp_path: Path) -> None:
    rows = [{"translation": {"de": f"w{n}", "en": f"w{n} w1"}} for n in range(3)]
    table = tmp_path / "a.parquet"
    pd.DataFrame(rows).to_parquet(table)
    fields = ("translation.de", "translation.en")
    assert pairs.holds_pairs(str(table), *fields)
    assert not pairs.holds_pairs(str(table), "source", "target")
    found, same = (
        [(pair.source, pair.target) for pair in pairs.read(location, *fields)]
        for location in (str(table), jsonl(tmp_path / "a.jsonl", *rows))
    )
    assert found == same == [(f"w{n}", f"w{n} w1") for n in range(3)]


def test_fields_that_were_named_must_be_there(tmp_path: Path) -> None:
    location = jsonl(tmp_path / "a.jsonl", {"de": "Ja", "text": "Yes"})
    pairs.require_named(location, "source", "target")
    pairs.require_named(location, "de", "text")
    pairs.require_named("builtin:prose", "de", "en")
    message = r"first row of .*a\.jsonl has no text field 'en'; its fields are \['de', 'text'\]"
    with pytest.raises(DataError, match=message):
        pairs.require_named(location, "de", "en")
    with pytest.raises(DataError, match=r"no text field 'target'.*--source-field and --target-f"):
        pairs.require_named(location, "de", "target")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"source": "a"}\n', r"line 1 has no text field 'target'; its fields are \['source'\]"),
        ('{"source": 1, "target": "b"}\n', "no text field 'source'.*--source-field"),
        ("[1]\n", "line 1 must be an object, got list"),
        ("{\n", "line 1 is not JSON: "),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(pairs.read(str(path)))


def test_what_is_no_file_of_pairs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs are read from .jsonl, .ndjson and .parquet files"):
        list(pairs.read("a.txt"))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(pairs.read(str(tmp_path / "none.jsonl")))


class NoHub:
    """Stands for the package `datasets` on a machine without a network."""

    @staticmethod
    def load_dataset(*_: object, **__: object) -> object:
        raise ConnectionError("Couldn't reach the Hub")


def test_a_hub_out_of_reach_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", NoHub)
    with pytest.raises(DataError, match=r"Couldn't reach the Hub.*as a JSONL file with the same"):
        list(pairs.read("hub:IWSLT/iwslt2017@iwslt2017-de-en:validation"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        list(pairs.read("hub:IWSLT/iwslt2017@iwslt2017-de-en:validation"))


def test_a_tokenizer_without_offsets_is_refused(
    monkeypatch: pytest.MonkeyPatch, words: PreTrainedTokenizerBase
) -> None:
    monkeypatch.setattr(type(words), "is_fast", property(lambda _: False))
    with pytest.raises(ModelError, match="need a fast tokenizer"):
        pairs.sample(Pair("line 1", "w1", "w2"), words)

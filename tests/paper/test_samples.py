"""Samples: which tokens are a target's, and which samples are taken."""

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from probekit.data.documents import Document
from probekit.data.prompted import pair_tokens, pairs
from probekit.data.prompted.pair_tokens import Sample
from probekit.data.prompted.pairs import Pair
from probekit.errors import DataError, ModelError
from probekit.models.catalogue import HERE
from probekit.paper import samples
from support import tiny_run

GERMAN = "Der alte Mann saß an der Küste und sah den Schiffen nach, bis es dunkel wurde."
ENGLISH = "The old man sat by the coast, watching the ships - naïve, they said - until it was dark."


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerBase:
    """Return a byte-level BPE whose tokens hold the space before a word."""
    return AutoTokenizer.from_pretrained(HERE / "bundled" / "tiny-s")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerBase:
    return tiny_run.tokenizer()


@pytest.mark.parametrize("target", [ENGLISH, "ünïted naïve words", "3 apples", '"Quoted" text'])
def test_the_mask_is_exactly_the_tokens_of_the_target(
    bpe: PreTrainedTokenizerBase, target: str
) -> None:
    made = pair_tokens.sample(Pair("line 1", GERMAN, target), bpe)
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
    made = pair_tokens.sample(Pair("line 1", GERMAN, ENGLISH), bpe)
    prompt = pairs.TEMPLATE.format(source=GERMAN)
    naive = len(bpe(prompt, add_special_tokens=False)["input_ids"]) + 1  # and BOS
    first = int(made.target.nonzero()[0])
    assert first == naive - 1  # the prompt alone ends with a token of its space
    assert bpe.decode(made.token_ids[first]) == " The"


def test_a_tokenizer_that_drops_spaces_masks_the_same_words(words: PreTrainedTokenizerBase) -> None:
    target = " ".join(f"w{n}" for n in range(5))
    made = pair_tokens.sample(Pair("line 1", "w9", target), words)
    assert words.convert_ids_to_tokens(made.token_ids[made.target].tolist()) == target.split()
    assert made.token_ids[0] == tiny_run.BOS
    assert not made.target[0]


def test_the_last_twenty_are_the_last_of_the_target() -> None:
    target = torch.tensor([False] * 5 + [True] * 25)
    made = Sample("line 1", torch.arange(30), target)
    assert made.last(20).nonzero()[:, 0].tolist() == list(range(10, 30))
    for offset in (1, 2):
        asked_from = samples.predicting_positions(made.last(20), offset).nonzero()[:, 0]
        assert (asked_from + offset).tolist() == list(range(10, 30))
    with pytest.raises(DataError, match="its target has 25 tokens, 26 are needed"):
        made.last(26)


def test_short_targets_and_long_samples_are_left_out(words: PreTrainedTokenizerBase) -> None:
    found = [Pair(f"line {n}", "w1", " ".join(["w2"] * n)) for n in (19, 20, 21, 60)]
    made = list(samples.pair_samples(found, words, seed=0))
    assert sorted(int(each.target.sum()) for each in made) == [20, 21, 60]
    longest = min(len(each.token_ids) for each in made) + 1
    made = list(samples.pair_samples(found, words, seed=0, longest=longest))
    assert sorted(int(each.target.sum()) for each in made) == [20, 21]
    message = "no pairs with a target of 20 tokens or more: 1 are shorter. Give"
    with pytest.raises(DataError, match=message):
        list(samples.pair_samples(found[:1], words, seed=0))
    message = "1 are shorter, 3 are longer than the 9 tokens that the model takes"
    with pytest.raises(DataError, match=message):
        list(samples.pair_samples(found, words, seed=0, longest=9))


def test_samples_are_chosen_by_seed(words: PreTrainedTokenizerBase) -> None:
    found = [Pair(f"line {n}", f"w{n}", " ".join(["w2"] * 20)) for n in range(12)]
    orders = [
        [each.name for each in samples.pair_samples(found, words, seed)] for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_open_texts_are_cut_and_asked_from_their_first_token(
    words: PreTrainedTokenizerBase,
) -> None:
    texts = [Document("a", f"{n}", " ".join(["w3"] * n)) for n in (99, 100, 300)]
    made = {each.name: each for each in samples.open_samples(texts, words, seed=0)}
    assert {name: len(each.token_ids) - 1 for name, each in made.items()} == {
        "100": 100,
        "300": 200,
    }
    assert made["100"].target.nonzero()[0].item() == 3  # BOS and two tokens stand before it
    assert (
        samples.predicting_positions(made["100"].target, 2).nonzero()[0].item() == 1
    )  # not from BOS
    with pytest.raises(DataError, match="no texts of 100 tokens or more: 1 are shorter"):
        list(samples.open_samples(texts[:1], words, seed=0))


def test_a_tokenizer_without_offsets_is_refused(
    monkeypatch: pytest.MonkeyPatch, words: PreTrainedTokenizerBase
) -> None:
    monkeypatch.setattr(type(words), "is_fast", property(lambda _: False))
    with pytest.raises(ModelError, match="need a fast tokenizer"):
        pair_tokens.sample(Pair("line 1", "w1", "w2"), words)

"""What a verdict says of scores that were made up: how far layers see, and of how much."""

import pytest

from probekit.pipelines.analysis.sentences import share_words
from probekit.pipelines.analysis.verdict import Beside, Findings, findings
from support.made_scores import LAYERS, Case, Key, case, is_said, said_of, sums, with_cells

# fmt: off
CASES = [
    case("everything is clear", "",
        "Layers see at least to t+2, the farthest that was asked",
        "There the probe at layer 1 of 3 reads 75 % [75 %, 75 %] of what the model itself "
        "knows beyond the current token (2.16 of 2.89 bits)",
        "The next token is settled at layer 2 of 3: from there on the logit lens has at "
        "least 95 % of the model's top-1 accuracy",
        "layer 1 of 3",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram | 2.89 bits | 75 % [75 %, 75 %]",
        "later layers lose 0.577 bits [0.569, 0.585] of what layer 1 reads",
    ),
    case("no earlier lens reaches", "lens/2/1 2.4",
        "The next token is settled in the last layer: no earlier layer's logit lens reaches 95 % "
        "of the model's top-1 accuracy (layer 2 reaches 67 % of it)",
    ),
    case("an earlier lens reaches, and none keeps", "lens/1/1 2.01, lens/2/1 2.2",
        "The next token is settled in the last layer: no earlier layer's logit lens reaches and "
        "keeps 95 % of the model's top-1 accuracy (layer 2 reaches 81 % of it)",
    ),
    case("the lens just misses", "lens/2/1 2.052",
        "The next token is settled in the last layer: no earlier layer's logit lens reaches 95 % "
        "of the model's top-1 accuracy (layer 2 reaches 94 % of it)",
    ),
    case("no lens", "",
        "later layers lose 0.577 bits [0.569, 0.585] of what layer 1 reads",
        dropped="lens",
    ),
    case("no model", "",
        "later layers lose 0.577 bits [0.569, 0.585] of what layer 1 reads",
        dropped="model",
    ),
    case("the model behind a skip-bigram", "model//1 4.8, lens/3/1 4.8",
        "The model predicts this text worse than counting does: its next-token loss is 0.43 "
        "bits [0.42, 0.44] above that of a skip-bigram",
        "What it knows of later tokens is no measure here, and none is given",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram",
    ),
    case("the model behind the unigram", "model//1 6.5, skip-bigram//1 6.4",
        "The model predicts this text worse than counting does: its next-token loss is 0.72 "
        "bits [0.71, 0.73] above that of a unigram",
        "What it knows of later tokens is no measure here, and none is given",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram",
    ),
    case("perhaps behind", "model//1 4.52",
        "The next token is settled at layer 1 of 3: from there on the logit lens has at "
        "least 95 % of the model's top-1 accuracy",
        "layer 1 of 3 (layers 1 to 3 cannot be told apart)",
        "2.16 bits [1.35, 3.03] beyond a skip-bigram | 2.89 bits | 75 % [52 %, 100 %]",
        "cannot tell whether later layers lose any: 0.577 bits [-0.223, 1.321] after layer 1",
        noise=1.0,
    ),
    case("behind, its output adapted", "model//1 4.8, marginal-adapted//2 3.2",
        "The model predicts this text worse than counting does: its next-token loss is 0.43 "
        "bits [0.42, 0.44] above that of a skip-bigram",
        "What it knows of later tokens is measured with its output adapted to this text",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram | 2.60 bits, its output adapted | 83 % "
        "[83 %, 84 %]",
    ),
    case("behind, adapted or not", "model//1 4.8, marginal-adapted//2 5.3",
        "The model predicts this text worse than counting does: its next-token loss is 0.43 "
        "bits [0.42, 0.44] above that of a skip-bigram",
        "What it knows of later tokens is no measure here, and none is given",
        "Of tokens ahead the model, its output adapted, tells less than the current token "
        "alone, t+2 by 0.43 bits [0.42, 0.44]: nothing is measured against it there",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram",
    ),
    case("the ceiling behind the floor", "marginal//2 5.5",
        "Of tokens ahead the model tells less than the current token alone, t+2 by 0.72 bits "
        "[0.72, 0.73]: nothing is measured against it there",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram",
    ),
    case("the adapted ceiling behind the floor", "marginal-adapted//2 5.5",
        "Of tokens ahead the model, its output adapted, tells less than the current token "
        "alone, t+2 by 0.72 bits [0.71, 0.73]: nothing is measured against it there",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram",
    ),
    case("the ceiling at the floor", "marginal//2 5.0",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram | 0.00 bits [-0.01, 0.01]: too little "
        "for a share | -",
    ),
    case("a small room", "marginal//2 4.85, linear/1/2 4.9, linear/2/2 4.95, linear/3/2 4.95",
        "0.14 bits [0.14, 0.15] beyond a skip-bigram | 0.22 bits [0.21, 0.22]: too little "
        "for a share | -",
        "later layers lose 0.072 bits [0.064, 0.080] of what layer 1 reads",
    ),
    case("a room that is not clear", "",
        "2.16 bits [2.16, 2.16] beyond a skip-bigram | 2.89 bits | 75 % [50 %, 151 %], as "
        "much as all of it cannot be excluded",
        "later layers lose 0.577 bits [0.577, 0.577] of what layer 1 reads",
        noise=3.0, noisy="marginal//2",
    ),
    case("a room that may be small", "marginal//2 4.0",
        "2.16 bits [2.16, 2.16] beyond a skip-bigram | 1.44 bits [-1.47, 4.39]: too "
        "uncertain for a share | -",
        "later layers lose 0.577 bits [0.577, 0.577] of what layer 1 reads",
        noise=6.0, noisy="marginal//2",
    ),
    case("no ceiling", "",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram | not measured | -",
        dropped="marginal",
    ),
    case("an adapted ceiling", "marginal-adapted//2 2.5",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram | 3.61 bits, its output adapted | 60 % "
        "[60 %, 60 %]",
    ),
    case("an adapted ceiling of a small room", "marginal-adapted//2 4.85",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram | 0.22 bits [0.21, 0.23], its output "
        "adapted: too little for a share | -",
    ),
    case("nothing is read", "linear/0/2 6.0, linear/1/2 6.0, linear/2/2 6.0, linear/3/2 6.0",
        "No layer reads any token ahead: no probe beats the unigram",
        noise=0.0, held="linear/0/2 6.0, linear/1/2 6.0, linear/2/2 6.0, linear/3/2 6.0",
    ),
    case("hardly anything is read",
        "linear/0/2 5.95, linear/1/2 5.95, linear/2/2 5.95, linear/3/2 5.95",
        "No layer reads any token ahead: no probe beats the unigram",
        noise=2.0,
    ),
    case("less than the floor", "linear/0/2 5.4, linear/1/2 5.3, linear/2/2 5.4, linear/3/2 5.5",
        "No layer clearly reads more of t+2 than the current token tells: -0.433 bits [-0.441, "
        "-0.424], not clear of nothing",
        "less than the floor, by 0.43 bits [0.42, 0.44] beyond a skip-bigram",
        "later layers lose 0.289 bits [0.281, 0.296] of what layer 1 reads",
    ),
    case("not clear of nothing", "linear/1/2 4.9, linear/2/2 4.95, linear/3/2 4.96",
        "No layer clearly reads more of t+2 than the current token tells: 0.144 bits [-0.183, "
        "0.490], not clear of nothing",
        "layer 1 of 3 (layers 0 to 3 cannot be told apart)",
        "0.14 bits [-0.18, 0.49], not clear of nothing beyond a skip-bigram",
        "cannot tell whether later layers lose any: 0.087 bits [-0.233, 0.384] after layer 1",
        noise=0.4,
    ),
    case("the best layer is the floor", "linear/0/2 3.4",
        "No layer clearly reads more of t+2 than the current token tells: 0.000 bits [0.000, "
        "0.000], not clear of nothing",
        "layer 0 of 3",
        "no layer reads more than the current token tells",
        "later layers lose 0.721 bits [0.716, 0.726] of what layer 0 reads",
        held="linear/0/2 3.3",
    ),
    case("all of it cannot be excluded", "marginal//2 3.6",
        "2.16 bits [2.16, 2.16] beyond a skip-bigram | 2.02 bits | 107 % [93 %, 125 %], as "
        "much as all of it cannot be excluded",
        "later layers lose 0.577 bits [0.577, 0.577] of what layer 1 reads",
        noise=0.6, noisy="marginal//2",
    ),
    case("more than the ceiling", "marginal//2 3.9",
        "2.16 bits [2.16, 2.17] beyond a skip-bigram | 1.59 bits | 136 % [136 %, 137 %], all "
        "of it and more",
    ),
]
# fmt: on


def found_in(case: Case) -> Findings:
    return findings(case.sums(), LAYERS, horizon=2)


def named(name: str) -> Findings:
    (only,) = (each for each in CASES if each.name == name)
    return found_in(only)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_scores_say(case: Case) -> None:
    found = found_in(case)
    text = said_of(found.verdict, found.offsets)
    assert [words for words in case.said if not is_said(words, text)] == []


def test_without_a_lens_or_a_model_the_next_token_is_not_spoken_of() -> None:
    for name in ("no lens", "no model", "the model behind a skip-bigram"):
        assert "The next token is settled" not in " ".join(named(name).verdict)


@pytest.mark.parametrize("name", ["nothing is read", "hardly anything is read"])
def test_of_what_no_layer_reads_nothing_is_said_of_layers(name: str) -> None:
    found = named(name)
    row = found.offsets[1]
    assert found.rows[1]["verdict"] == row["late_loss"] == "no layer reads it"
    assert row["read"] == "no layer reads it: no probe beats the unigram"
    assert (row["alike"], row["share"]) == ("", "")


@pytest.mark.parametrize(
    "name",
    ["the model behind a skip-bigram", "behind, adapted or not", "the ceiling behind the floor"],
)
def test_where_counting_tells_more_than_the_model_it_is_no_ceiling(name: str) -> None:
    found = named(name)
    assert "worse than counting" in found.verdict[0] or "less than the current" in found.verdict[0]
    assert found.rows[1]["recovered"] is None
    assert not [text for text in found.verdict if "itself knows" in text]
    assert found.offsets[1]["share"] == ""
    assert found.offsets[1]["top1"]["ceiling"] is None
    assert (2, 2) not in [(layer, offset) for _, layer, offset in found.shares]


def test_sentence_cells_and_curve_speak_of_one_ceiling() -> None:
    found = named("an adapted ceiling")
    share = found.shares["prose", 1, 2]["share"]
    assert share == pytest.approx(1.5 / 2.5)
    known = "60 % [60 %, 60 %] of what the model knows, its output adapted, beyond the current"
    assert known in found.verdict[0]
    assert found.offsets[1]["share"] == "60 % [60 %, 60 %]"
    assert found.offsets[1]["known"] == "3.61 bits, its output adapted"


def test_a_layer_s_share_lies_between_floor_and_ceiling_at_the_next_token_too() -> None:
    found = named("everything is clear")
    at_next = [found.shares["prose", layer, 1]["share"] for layer in range(LAYERS + 1)]
    assert at_next == pytest.approx([(4.4 - nats) / 2.4 for nats in (4.4, 3.0, 2.2, 1.98)])
    ahead = [found.shares["prose", layer, 2]["share"] for layer in range(LAYERS + 1)]
    assert ahead == pytest.approx([(5.0 - nats) / 2.0 for nats in (5.04, 3.5, 3.6, 3.9)])


def test_a_loose_ceiling_is_called_an_estimate_in_bits() -> None:
    for error, word in ((0.05, "2.89 bits"), (0.06, "2.89 bits, an estimate to ± 0.09")):
        assert findings(sums(), LAYERS, 2, Beside({2: error})).offsets[1]["known"] == word


def test_the_first_sentence_says_whether_more_text_would_move_it() -> None:
    moved = findings(sums(), LAYERS, 2, Beside(more_text={2: "more text would still raise it"}))
    assert moved.verdict[0].endswith("(2.16 of 2.89 bits); more text would still raise it.")


def test_another_text_than_the_first_that_the_model_does_not_know_is_a_warning() -> None:
    names = ["prose", "code"] * 12
    behind = findings(sums(with_cells({("model", None, 1): 4.8}), domains=names), LAYERS, 2)
    codes = [each["code"] for each in behind.warnings]
    assert codes.count("behind-counting") == 2
    assert behind.verdict[0].startswith("The model predicts this text worse than counting does")


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ((0.25, 0.21, 0.30), "25 % [21 %, 30 %]"),
        ((0.08, -0.01, 0.15), "8 % [-1 %, 15 %], not clear of nothing"),
        ((-0.09, -0.19, 0.05), "-9 % [-19 %, 5 %], not clear of nothing"),
        ((0.62, 0.43, 1.22), "62 % [43 %, 122 %], as much as all of it cannot be excluded"),
        ((1.36, 1.1, 1.7), "136 % [110 %, 170 %], all of it and more"),
        ((0.0, 0.0, 0.0), "0 % [0 %, 0 %], not clear of nothing"),
    ],
)
def test_an_interval_beyond_nothing_or_all_has_its_word(
    share: tuple[float, float, float], words: str
) -> None:
    assert share_words(share) == words


THIRD: dict[Key, float] = {
    ("unigram", None, 3): 6.0,
    ("skip-bigram", None, 3): 5.2,
    ("marginal", None, 3): 4.0,
    **{("linear", layer, 3): nats for layer, nats in enumerate((5.25, 4.4, 4.2, 4.5))},
}


def of_three_offsets(*noisy_positions: str) -> Findings:
    """Return what is found where the probe of t+3 is noisy on some positions."""
    test = with_cells(THIRD)
    held = {key: nats for key, nats in test.items() if key[0] != "marginal"}
    noisy = [("linear", 2, 3)]
    made = sums(test, held, 6.0, noisy=noisy, noisy_positions=noisy_positions)
    return findings(made, LAYERS, horizon=3)


def test_what_is_read_is_judged_on_all_test_positions() -> None:
    found = of_three_offsets("marginal")
    assert found.verdict[0] == (
        "Layers see at least to t+3, the farthest that was asked. There the probe at layer 2 of 3 "
        "reads 1.44 bits [1.44, 1.44] beyond the current token; what the model itself knows, "
        "1.73 bits [-1.39, 5.31], is too uncertain for a share."
    )
    third = found.offsets[2]
    assert (third["read"], third["share"]) == ("1.44 bits [1.44, 1.44]", "")


def test_where_it_ends_is_said_with_what_is_read_of_the_next_offset() -> None:
    found = of_three_offsets("all", "marginal")
    (sentence,) = (words for words in found.verdict if words.startswith("Layers see"))
    far, _, there = sentence.partition(", not clear of nothing. ")
    assert far.startswith("Layers see to t+2; of t+3 they read 1.443 bits [-")
    assert there.startswith("At t+2 the probe at layer 1 of 3 reads 75 % [75 %, 75 %] of what")

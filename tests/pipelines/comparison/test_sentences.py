"""What a comparison says of runs whose numbers were made up: numbers in, sentences out.

`python tests/pipelines/comparison/test_sentences.py` writes what is kept again, to be read in the
diff.
"""

from collections.abc import Mapping, Sequence

import pytest

from probekit.pipelines.comparison.compare import Comparison, compare
from support.made_runs import MadeRun
from support.paths import ROOT

KEPT = ROOT / "tests" / "golden" / "sentences_of_compare.txt"
MORE = "linear/1/2 3.3, marginal//2 2.6, model//1 1.8"
# fmt: off
CASES: Mapping[str, Sequence[MadeRun]] = {
    "a larger model knows more": [
        MadeRun("small", own_noise=0.1), MadeRun("large", MORE, millions=4.0, own_noise=0.1),
    ],
    "a larger model knows less": [
        MadeRun("small", MORE, own_noise=0.1), MadeRun("large", millions=4.0, own_noise=0.1),
    ],
    "a difference that is not clear": [
        MadeRun("small", own_noise=0.8), MadeRun("large", MORE, millions=4.0, own_noise=0.8),
    ],
    "a difference below the digits shown": [
        MadeRun("small", own_noise=0.003),
        MadeRun("large", "linear/1/2 3.495", millions=4.0, own_noise=0.003),
    ],
    "a difference that more text would move by as much": [
        MadeRun("small", own_noise=0.1),
        MadeRun("large", MORE, 4.0, own_noise=0.1, facts={"gain": 0.3}),
    ],
    "two models of one size": [
        MadeRun("one", own_noise=0.1), MadeRun("other", MORE, own_noise=0.1),
    ],
    "twins: the same weights times 1 + 1e-7": [
        MadeRun("model"), MadeRun("twin", times=1 + 1e-7),
    ],
    "twins that differ by a hundred times as much": [
        MadeRun("model"), MadeRun("twin", times=1 + 1e-5),
    ],
    "models that differ by a hundredth": [
        MadeRun("model"), MadeRun("near", times=1.01),
    ],
    "one model, other marginalized positions": [
        MadeRun("first", facts={"fingerprint": "f"}),
        MadeRun("second", facts={"fingerprint": "f", "seed": 3}),
    ],
    "one model, probes of another place": [
        MadeRun("first", facts={"fingerprint": "f"}, own_noise=0.1),
        MadeRun("second", MORE, facts={"fingerprint": "f", "site": "mlp"}, own_noise=0.1),
    ],
    "one model, another text": [
        MadeRun("first", facts={"fingerprint": "f"}),
        MadeRun("second", facts={"fingerprint": "f", "text": "b"}),
    ],
    "one model, nothing else": [
        MadeRun("first", facts={"fingerprint": "f"}), MadeRun("second", facts={"fingerprint": "f"}),
    ],
    "three tokenizers": [
        MadeRun("short", own_noise=0.1),
        MadeRun("long", "model//1 1.4", 2.0, own_noise=0.1, facts={"tokenizer": "2048"}),
        MadeRun("characters", "model//1 2.02", 3.0, own_noise=0.1, facts={"tokenizer": "chars"}),
    ],
    "a ladder, and a model of another tokenizer": [
        MadeRun("small", own_noise=0.1),
        MadeRun("large", MORE, 4.0, own_noise=0.1),
        MadeRun("stranger", MORE, 5.0, own_noise=0.1, facts={"tokenizer": "2048"}),
    ],
    "not compared: other texts": [
        MadeRun("one"), MadeRun("other", facts={"text": "b"}),
    ],
    "not compared: other targets": [
        MadeRun("one"), MadeRun("other", facts={"target": "model"}),
    ],
    "too few documents": [
        MadeRun("one", facts={"documents": 5}), MadeRun("other", MORE, facts={"documents": 5}),
    ],
    "too few documents, other tokenizers": [
        MadeRun("one", facts={"documents": 5}),
        MadeRun("other", MORE, facts={"documents": 5, "tokenizer": "2048"}),
    ],
    "a ceiling that is an estimate": [
        MadeRun("small", own_noise=0.1, facts={"nats_error": 0.3}),
        MadeRun("large", MORE, 4.0, own_noise=0.1),
    ],
    "a model that predicts worse than counting": [
        MadeRun("small", own_noise=0.1),
        MadeRun("behind", "linear/1/2 3.3, marginal//2 2.6, model//1 9", 4.0, own_noise=0.1),
    ],
    "what the runs warn of": [
        MadeRun("a", warnings={"pairs": "all are wrapped", "adaptation": "beaten by 0.1 nats"}),
        MadeRun("b", warnings={"pairs": "all are wrapped", "adaptation": "beaten by 0.2 nats"}),
        MadeRun("c", warnings={"overlap": "2 documents are in both"}),
    ],
}
# fmt: on


def compared(name: str) -> Comparison:
    return compare([made.run() for made in CASES[name]])


def told(name: str) -> str:
    """Return a case as it is kept: what is special of each run, then what is said."""
    found = compared(name)
    lines = [f"== {name}"]
    for made in CASES[name]:
        facts = [made.cells, *(f"{key} {value}" for key, value in made.facts.items())]
        facts += [f"own noise {made.own_noise:g}"] if made.own_noise else []
        facts += [f"losses times {made.times:.8g}"] if made.times != 1 else []
        facts += [f"warns of {code}: {message}" for code, message in made.warnings.items()]
        special = "; ".join(fact for fact in facts if fact) or "as all are"
        lines.append(f"{made.name}, {made.millions:g}M: {special}")
    lines += [f"-> {sentence}" for sentence in found.document["verdict"]]
    lines += [f"!! {row['code']}: {row['message']}" for row in found.warnings]
    return "\n".join(lines)


def kept() -> dict[str, str]:
    cases = KEPT.read_text(encoding="utf-8").strip().split("\n\n")
    return {case.split("\n")[0].removeprefix("== "): case for case in cases}


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_told_as_it_is_kept(name: str) -> None:
    assert told(name) == kept()[name]


def test_a_share_that_a_run_does_not_tell_itself_is_held_against_none() -> None:
    runs = [made.run() for made in CASES["a larger model knows more"]]
    assert "recovers 70.8 %" in compare(runs).document["verdict"][-1]
    # As where other resamples put the run past the threshold.
    runs[1].results["specialization"][1]["recovered"] = None
    found = compare(runs)
    assert "recovered" not in set(found.differences["quantity"])
    assert not [text for text in found.document["verdict"] if "recovers" in text]


def test_no_case_is_kept_that_is_not_told() -> None:
    assert list(kept()) == list(CASES)


if __name__ == "__main__":
    KEPT.write_text("\n\n".join(map(told, CASES)) + "\n", encoding="utf-8")

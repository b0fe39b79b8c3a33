"""Every sentence that a person reads of an analysis, against those that are kept to be read.

`python tests/pipelines/analysis/test_golden_sentences.py` writes them again, to be read in the
diff.
"""

import tempfile
from pathlib import Path

import pytest

from support import tiny_run
from support.golden_sentences import RUNS, alike, of_run, of_scores
from support.paths import ROOT

FILE = ROOT / "tests" / "golden" / "sentences.txt"
HEAD = "# "
SLOW = "text that it does not know", "random words"


def kept() -> dict[str, list[str]]:
    cases = FILE.read_text(encoding="utf-8").split(f"\n{HEAD}")
    found = [case.removeprefix(HEAD).splitlines() for case in cases]
    return {lines[0]: [line for line in lines[1:] if line] for lines in found}


def require_alike(name: str, lines: list[str]) -> None:
    expected = kept()[name]
    for line, other in zip(lines, expected, strict=False):
        assert alike(" ".join(other.split()), " ".join(line.split())), (line, other)
    assert len(lines) == len(expected)


def test_made_up_scores_are_told_of_as_it_is_kept() -> None:
    for name, lines in of_scores():
        require_alike(name, lines)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in RUNS]
)
def test_a_run_is_told_of_as_it_is_kept(name: str, model_folder: Path, tmp_path: Path) -> None:
    require_alike(name, of_run(name, tmp_path / "case", str(model_folder)))


def test_other_words_or_numbers_are_not_alike() -> None:
    assert alike("0.57 bits [0.39, 0.75]", "0.58 bits [0.39, 0.74]")
    assert not alike("0.57 bits [0.39, 0.75]", "0.57 nats [0.39, 0.75]")
    assert not alike("0.57 bits [0.39, 0.75]", "0.57 bits [-0.39, 0.75]")
    assert not alike("80 % read", "90 % read")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tiny_run.model().save_pretrained(folder / "model")
        tiny_run.tokenizer().save_pretrained(folder / "model")
        runs = [(name, of_run(name, folder / name, str(folder / "model"))) for name in RUNS]
    texts = ["\n".join([f"{HEAD}{name}", *lines]) for name, lines in [*runs, *of_scores()]]
    FILE.write_text("\n\n".join(texts) + "\n", encoding="utf-8")

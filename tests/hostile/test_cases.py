"""Each case of the table ends as it says; run as a script, this writes docs/hostile.md."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hostile.cases import Call, Case, kinds, row, says
from support.paths import ROOT

PAGE = ROOT / "docs" / "hostile.md"
HEAD = """# Broken, foreign and hostile input

{count} cases, each a test (`tests/hostile/`): what is given, the command or call, how it ends (an
exit code: 0 done, 1 a stated problem, 2 usage; or the error of a call), and what is said, with …
for anything. None ends in a traceback.
"""


def parameters() -> list[Any]:
    return [
        pytest.param(case, id=f"{kind}: {case.name}", marks=[pytest.mark.slow] if case.slow else [])
        for kind, _, cases in kinds()
        for case in cases
    ]


@cache
def rows() -> list[str]:
    return PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("case", parameters())
def test_the_answer_is_one_sentence_and_listed(case: Case | Call, tmp_path: Path) -> None:
    arguments = case.prepare(tmp_path)
    listed = row(case, arguments, tmp_path)
    end, printed = case.answer(arguments, tmp_path)
    assert end == case.end, printed
    assert says(printed, case.sentence), printed
    assert listed in rows(), "run tests/hostile/test_cases.py"


def test_the_page_lists_no_more() -> None:
    listed = [
        line for line in rows() if line.startswith("| ") and line[2:7] not in ("given", "--- |")
    ]
    names = [case.name for _, _, cases in kinds() for case in cases]
    assert len(listed) == len(names) == len({parameter.id for parameter in parameters()})


def write() -> None:
    """Write the page."""
    sections = []
    for _, heading, cases in kinds():
        lines = [
            "",
            f"## {heading}",
            "",
            "| given | asked | ends | said |",
            "| --- | --- | --- | --- |",
        ]
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder).resolve()
                lines.append(row(case, case.prepare(path), path))
        sections.append(lines)
    count = sum(len(cases) for _, _, cases in kinds())
    text = HEAD.format(count=count) + "\n".join(line for lines in sections for line in lines)
    PAGE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()

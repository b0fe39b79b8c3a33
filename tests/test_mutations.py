"""Every planted bug is caught by the test that is named for it."""

import ast
from pathlib import Path

import pytest

from support import mutations
from support.paths import ROOT
from support.planted_bug import Mutation
from support.planted_bugs import MUTATIONS

TABLE = ROOT / "docs" / "mutations.md"


def named(mutation: Mutation) -> str:
    return mutation.name


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=named)
def test_the_place_of_a_bug_is_there_once_and_its_tests_exist(mutation: Mutation) -> None:
    source = mutation.path(ROOT).read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1
    ast.parse(source.replace(mutation.old, mutation.new))
    assert mutation.tests
    for test in mutation.tests:
        file, _, function = test.partition("::")
        assert function.partition("[")[0] in functions(ROOT / file), test


def test_each_bug_has_its_row_in_the_documentation() -> None:
    rows = [line.split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    places = [(row[0].removeprefix("| "), row[1].strip("`")) for row in rows if len(row) == 3]
    # Behind the two lines of the head.
    assert places[2:] == [(mutation.name, mutation.module) for mutation in MUTATIONS]
    assert "survives" not in TABLE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=named)
def test_a_bug_is_caught(mutation: Mutation) -> None:
    assert mutations.caught_by(mutation) is not None

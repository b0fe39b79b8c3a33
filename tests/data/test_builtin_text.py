"""The built-in text is in parts that never meet, the same wherever the package runs."""

import ast
import inspect
import json.decoder
import textwrap
from collections import Counter

import pytest

from probekit.data import builtin_text
from probekit.data.builtin_text import (
    DOMAINS,
    PARTS,
    Domain,
    docstrings,
    part_of,
    without_docstrings,
)

SAMPLE = textwrap.dedent('''
    """Top of the module,
    over two lines."""

    import os

    CONSTANT = """a string that is no docstring"""


    class Holder:
        r"""Of the class: \\d."""

        async def method(self):
            \'\'\'Of the method.

                Indented further.

            Back at the margin.
            \'\'\'
            return "kept"


    def bare():
        return os.sep
''')


@pytest.fixture(scope="module", params=DOMAINS)
def domain(request: pytest.FixtureRequest) -> Domain:
    found: Domain = request.param
    return found


@pytest.fixture(scope="module")
def parts(domain: Domain) -> dict[str, dict[str, str]]:
    return {part: builtin_text.documents(domain, part) for part in PARTS}


def test_no_document_is_in_two_parts(parts: dict[str, dict[str, str]]) -> None:
    counts = Counter(name for documents in parts.values() for name in documents)
    assert set(counts.values()) == {1}


def test_a_document_is_in_the_part_of_its_name(parts: dict[str, dict[str, str]]) -> None:
    for part, documents in parts.items():
        assert {part_of(name) for name in documents} == {part}


def test_every_module_is_in_some_part_unless_it_is_short(
    domain: Domain, parts: dict[str, dict[str, str]]
) -> None:
    kept = {name for documents in parts.values() for name in documents}
    text_of = docstrings if domain == "prose" else without_docstrings
    for module in (json.decoder, inspect, textwrap, ast):
        long = len(text_of(inspect.getsource(module))) >= builtin_text.SHORTEST_DOCUMENT
        assert (module.__name__ in kept) == long


def test_parts_have_the_shares_that_their_hash_intervals_promise(
    parts: dict[str, dict[str, str]],
) -> None:
    # Some 300 documents or more: a share is within 0.1 of its interval's width.
    total = sum(len(documents) for documents in parts.values())
    widths = {"train": 0.65, "early-stop": 0.05, "held-out": 0.30}
    for part, width in widths.items():
        assert abs(len(parts[part]) / total - width) < 0.1


def test_the_same_call_gives_the_same_documents_in_the_same_order(domain: Domain) -> None:
    first, second = (builtin_text.documents(domain, "early-stop") for _ in range(2))
    assert list(first.items()) == list(second.items())
    assert list(first) == sorted(first)


def test_every_document_is_long_enough(parts: dict[str, dict[str, str]]) -> None:
    lengths = [len(text) for documents in parts.values() for text in documents.values()]
    assert min(lengths) >= builtin_text.SHORTEST_DOCUMENT


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("json.decoder", "train"),
        ("argparse", "early-stop"),
        ("asyncio.events", "held-out"),
        ("heapq", "held-out"),
        ("topics.assert", "train"),
    ],
)
def test_the_split_is_pinned(name: str, part: str) -> None:
    # The built-in models were trained by it: another hash would put their own text to test.
    assert part_of(name) == part


def test_platform_modules_and_tests_are_left_out(parts: dict[str, dict[str, str]]) -> None:
    for documents in parts.values():
        for name in documents:
            assert name.split(".")[0] not in builtin_text.LEFT_OUT
            assert not {"test", "tests"} & set(name.split("."))
            assert not name.startswith("_sysconfigdata")


def test_prose_has_the_language_reference_and_code_has_not() -> None:
    assert any(name.startswith("topics.") for name in builtin_text.documents("prose", "held-out"))
    assert not any(
        name.startswith("topics.") for name in builtin_text.documents("code", "held-out")
    )


def test_docstrings_are_taken_in_order_and_cleaned() -> None:
    assert docstrings(SAMPLE) == (
        "Top of the module,\nover two lines.\n\n"
        "Of the class: \\d.\n\n"
        "Of the method.\n\n    Indented further.\n\nBack at the margin.\n"
    )


def test_code_keeps_strings_that_are_no_docstrings() -> None:
    code = without_docstrings(SAMPLE)
    assert "Of the" not in code
    assert "Top of" not in code
    assert "a string that is no docstring" in code
    assert 'return "kept"' in code


def test_a_real_module_has_no_docstring_left_in_its_code() -> None:
    code = without_docstrings(inspect.getsource(json.decoder))
    for holder in (json.decoder.JSONDecoder, json.decoder.JSONDecoder.raw_decode):
        said = inspect.getdoc(holder)
        assert said is not None
        first_line = said.splitlines()[0]
        assert first_line in docstrings(inspect.getsource(json.decoder))
        assert first_line not in code
    assert "def raw_decode(self, s, idx=0):" in code


def test_a_module_without_docstrings_is_its_own_code() -> None:
    assert without_docstrings("x = 1\n") == "x = 1\n"
    assert docstrings("x = 1\n").strip() == ""

"""How much of the test text stands in training text."""

from typing import Any

import pytest

from probekit.data.blocks import TokenizedDocument
from probekit.data.overlap import copied_shares


def document(split: Any, ids: range | list[int], domain: str = "d", prompt: int = 0) -> Any:
    return TokenizedDocument(domain, "name", split, list(ids), 1, "", prompt=prompt)


def test_n_grams_of_the_test_text_that_stand_in_training_are_counted_by_domain() -> None:
    documents = [
        document("train", range(100)),
        document("test", [*range(50, 62), *range(500, 508)]),  # 12 - 8 of 20 - 8
        document("test", range(8), "short"),
        document("test", range(95, 110), "other"),  # none holds all of 95 ... 99 and 4 more
        document("test", range(90, 100), "all"),
        document("validation", range(500, 600)),
    ]
    found = copied_shares(documents)
    assert found == {"d": pytest.approx(4 / 12), "short": None, "other": 0.0, "all": 1.0}


def test_neither_prompts_nor_what_lies_across_documents_count() -> None:
    documents = [
        document("train", range(20), prompt=9),
        document("train", range(50, 56)),
        document("train", range(56, 62)),
        document("test", range(12), "prompts"),
        document("test", range(50, 62), "across"),
    ]
    assert copied_shares(documents) == {"d": None, "prompts": 0.0, "across": 0.0}

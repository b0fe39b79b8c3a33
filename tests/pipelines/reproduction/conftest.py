"""What tests of repeated figures share: a file of pairs."""

import json
from pathlib import Path

import pytest

from support import tiny_run


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return five pairs whose targets have 24 to 28 words."""
    path = tmp_path_factory.mktemp("pairs") / "words.jsonl"
    texts = [text.split() for text in tiny_run.documents(5, seed=3)]
    rows = [
        {"source": " ".join(words[:3]), "target": " ".join(words[3 : 27 + n])}
        for n, words in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path

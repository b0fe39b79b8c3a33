"""How much of the test text stands word for word in the training text of the same run."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from probekit.data.blocks import TokenizedDocument

# Tokens in a row that two texts seldom share unless one was copied.
LENGTH = 9
# Beyond this share what was learned by heart moves the numbers.
MUCH = 0.05


def copied_shares(documents: Sequence[TokenizedDocument]) -> dict[str, float | None]:
    """Return by domain the share of test 9-grams that stand in any training document.

    Prompts do not count, nor what would reach over the end of a document.

    Args:
        documents: The documents of all domains.

    Returns:
        Shares in 0..1; None where no test document has so many tokens.
    """
    train = _n_grams(document for document in documents if document.split == "train")
    domains = dict.fromkeys(document.domain for document in documents)
    tested = {domain: _test_n_grams(documents, domain) for domain in domains}
    return {
        domain: float(np.isin(n_grams, train).mean()) if len(n_grams) else None
        for domain, n_grams in tested.items()
    }


def _test_n_grams(documents: Iterable[TokenizedDocument], domain: str) -> NDArray[np.uint64]:
    return _n_grams(d for d in documents if d.split == "test" and d.domain == domain)


def _n_grams(documents: Iterable[TokenizedDocument]) -> NDArray[np.uint64]:
    """Return a number for each n-gram: its product with random odd numbers, modulo 2^64.

    Two n-grams have one number with a probability of about 2^-64.
    """
    factors = np.random.default_rng(0).integers(2**63, size=LENGTH, dtype=np.uint64) * 2 + 1
    found = [np.empty(0, dtype=np.uint64)]
    for document, span in ((each, span) for each in documents for span in each.targets):
        ids = np.array(document.ids[span.start : span.stop], dtype=np.uint64)
        if len(ids) >= LENGTH:
            found.append(np.lib.stride_tricks.sliding_window_view(ids, LENGTH) @ factors)
    return np.concatenate(found)

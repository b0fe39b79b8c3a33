"""The warning that documents are too few for a sure interval."""

from collections.abc import Iterator

from probekit.scoring.rates import Rates

# Fewer test documents than this, and an interval is rough: with 5 documents it held the truth
# 91 times in 100, not 95 (tests/scoring/test_intervals.py).
FEWEST_TEST_DOCUMENTS = 20


def few_documents(domain: str, rates: Rates) -> Iterator[dict[str, str]]:
    """Yield the warning that intervals are rough, or that there is none, where that is so."""
    count = int(rates.n_documents.max())
    if count >= FEWEST_TEST_DOCUMENTS:
        return
    none = f"{rates.shortage} for an interval or a verdict. Give more text."
    rough = f"{count} test documents; below {FEWEST_TEST_DOCUMENTS} the intervals are rough."
    told = none if rates.shortage else rough
    yield {"code": "few-test-documents", "message": f"{domain}: {told}"}

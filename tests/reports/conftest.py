"""What tests of pages share."""

import pytest


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave drawings, which take most of the time, out of pages whose words are tested."""
    monkeypatch.setattr("probekit.reports.components.figure.inline", lambda *_: "<svg></svg>")

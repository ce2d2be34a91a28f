"""No proxy, no network, no waiting."""

import pytest

from cxrbench.models.weights import fetch


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("CXRBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr(fetch, "_WAIT", 0.0)

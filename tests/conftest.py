"""Fixtures of the whole suite: where the shared material lies, and a private cache for every test."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

CHECKOUT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The demonstration comes first: it takes minutes, which nobody should wait for at the end of a parallel run."""
    items.sort(key=lambda item: CHECKOUT / "tests" / "demo" not in item.path.parents)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout; tests that need its licensed files skip where it is absent."""
    folder = CHECKOUT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (label tables and radiographs that may not be committed)")
    return folder


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a parallel run: who comes later reuses what the first has made."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def paper_phantom(session_folder: Path) -> Path:
    """The drawn data sets of the paper's tasks, 2,000 radiographs in half a minute, to be copied and never changed."""
    from cxrbench.phantom.write import write
    from cxrbench.specs import catalog

    folder = session_folder / "paper-phantom"
    with FileLock(f"{folder}.lock"):
        for task in catalog.PAPERS_TASKS:
            write(task, folder)
    return folder


@pytest.fixture(autouse=True)
def _private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXRBENCH_DATA", raising=False)

"""The demonstration, made once for all tests of it."""

import os
from pathlib import Path

import pytest
from demonstration import Shown
from filelock import FileLock

from cxrbench.cli.demonstration import Folders, demo
from cxrbench.system.progress import Quiet


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a parallel run: who comes later reuses what the first has made."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demonstration"


@pytest.fixture(scope="session")
def shown(root: Path) -> Shown:
    told: list[str] = []
    with FileLock(root.with_suffix(".lock")):
        report = demo(root, Quiet(), told.append)
    return Shown(Folders(root), report, tuple(told))

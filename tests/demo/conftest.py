"""The demonstration, made once for all tests of it."""

import shutil
from pathlib import Path

import pytest
from demonstration import Shown
from filelock import FileLock

from cxrbench.cli.demonstration import Folders, demo
from cxrbench.system.progress import Quiet


@pytest.fixture(scope="session")
def shown(session_folder: Path, paper_phantom: Path) -> Shown:
    """The demonstration on evaluation sets that are there: it draws what it learns from."""
    root, told = session_folder / "demonstration", list[str]()
    folders = Folders(root)
    with FileLock(root.with_suffix(".lock")):
        if not folders.evaluation.exists():
            shutil.copytree(paper_phantom, folders.evaluation)
        report = demo(root, Quiet(), told.append, told.append)
    return Shown(folders, report, tuple(told))

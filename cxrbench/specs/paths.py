"""Where things lie: fact files beside the package in a checkout or inside it in a wheel, and the user's cache."""

import os
from pathlib import Path
from typing import Literal

from cxrbench.errors import IntegrityError

Folder = Literal["model_zoo", "tasks", "published"]

_IN_CHECKOUT: dict[Folder, str] = {"model_zoo": "model_zoo", "tasks": "tasks", "published": "results/published"}


def folder(name: Folder) -> Path:
    """The folder of one kind of facts; raises IntegrityError when the installation lost it."""
    package = Path(__file__).resolve().parent.parent
    candidates = (package / name, package.parent / _IN_CHECKOUT[name])
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise IntegrityError(
        f"the fact files '{name}' are missing; looked in {' and '.join(map(str, candidates))}. Install cxrbench again."
    )


def checkout() -> Path | None:
    """The root of the source checkout that this package runs from, or None in an installed wheel."""
    root = Path(__file__).resolve().parent.parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "model_zoo").is_dir() else None


def default_cache() -> Path:
    """Where embeddings are kept: $CXRBENCH_CACHE, or the user's cache folder."""
    named = os.environ.get("CXRBENCH_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("cxrbench")

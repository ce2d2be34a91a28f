"""Which program made a number."""

import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from cxrbench.records.record import CodeIdentity
from cxrbench.specs import paths
from cxrbench.store import digest

_RECORDED = (
    "torch",
    "torchvision",
    "transformers",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "pydicom",
    "python-gdcm",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "tokenizers",
    "sentencepiece",
    "open_clip_torch",
    "timm",
    "safetensors",
)


@cache
def code_identity() -> CodeIdentity:
    """Version, digest of all Python sources of the package, and the commit of a checkout."""
    package = Path(__file__).resolve().parent.parent
    sources = {p.relative_to(package).as_posix(): digest.of_file(p) for p in sorted(package.rglob("*.py"))}
    return CodeIdentity(version=metadata.version("cxrbench"), sources=digest.of_json(sources)[:16], commit=_commit())


def _commit() -> str | None:
    root = paths.checkout()
    if root is None:
        return None
    try:
        told = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that touch a number."""
    return {name: metadata.version(name) for name in _RECORDED}

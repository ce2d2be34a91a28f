"""Checkpoints in several files with an index, as the hub keeps large models: told apart, named, and not read."""

import json
from pathlib import Path

from cxrbench.errors import IntegrityError

SUFFIX = ".index.json"


def refuse_index(path: Path) -> None:
    """Raise IntegrityError that names the parts if the file is such an index; do nothing for any other file."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        parts = sorted(set(told["weight_map"].values()))
    except (ValueError, TypeError, LookupError, AttributeError):
        return
    lost = [str(part) for part in parts if not (path.parent / str(part)).is_file()]
    whole = path.name.removesuffix(SUFFIX)
    how = "safetensors.torch.load_file of each, then one save_file of all their tensors"
    if not whole.endswith(".safetensors"):
        how = "torch.load(..., weights_only=True) of each, then one torch.save of all their tensors"
    named = ", ".join(map(str, parts[:4])) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
    missing = f" {len(lost)} of them are not beside it: {', '.join(lost[:4])}." if lost else ""
    raise IntegrityError(
        f"{path}: an index of {len(parts)} files which hold the tensors together: {named}.{missing} A checkpoint in "
        f"several files is not read: join them into one {whole} ({how}), and give that."
    )


def index_beside(path: Path) -> Path | None:
    """The index that stands in place of a single file, if there is one."""
    found = path.with_name(path.name + SUFFIX)
    return found if found.is_file() else None

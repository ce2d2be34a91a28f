"""The note that lies in the folder of every drawn data set, by which it is told from a real one."""

from pathlib import Path

from cxrbench.data.presence import is_file

NAME = "PHANTOM.json"


def drawn(folder: Path, root: Path) -> bool:
    """Whether the folder, or one above it up to `root`, holds the note; raises DataError if that cannot be seen."""
    above = (parent for parent in folder.parents if parent.is_relative_to(root))
    return any(is_file(place / NAME) for place in (folder, *above))

"""Every image of a split read once, so that what cannot be read is known before a long run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cxrbench.data.contents import Read, read_each
from cxrbench.errors import MissingImageError
from cxrbench.images.pixels import pixels_by
from cxrbench.specs.recipe import Recipe
from cxrbench.store.file_hashes import Ledger
from cxrbench.system.progress import Progress


@dataclass(slots=True)
class Reading:
    """What the files of images hold, by image id.

    `contents`: SHA-256 of the bytes; `unreadable`: why they are no picture for a run; `missing`: files that are not
    there, whatever the folder's listing said.
    """

    contents: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Images that a run would leave out."""
        return len(self.unreadable) + len(self.missing)


def read_all(paths: Mapping[str, Path], recipe: Recipe, ledger: Ledger, workers: int, progress: Progress) -> Reading:
    """Read every file as a run with this recipe would, whatever the ledger knows of it; hashes go into the ledger."""
    made = Reading()

    def decode(data: bytes, name: str) -> None:
        pixels_by(data, name, recipe)

    for image, read in read_each(paths, ledger, workers, progress, "the image reader", decode):
        _note(made, image, read)
    return made


def _note(made: Reading, image: str, found: Read) -> None:
    if found.content:
        made.contents[image] = found.content
    if isinstance(found.failed, MissingImageError):
        made.missing[image] = str(found.failed)
    elif found.failed is not None:
        made.unreadable[image] = str(found.failed)

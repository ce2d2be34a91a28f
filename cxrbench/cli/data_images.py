"""What `data prepare` and `data verify` read of the images of a split, and what they say of it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxrbench.cli.echo import echo
from cxrbench.errors import CxrBenchError, DataError, IntegrityError

if TYPE_CHECKING:
    from cxrbench.data.contents import Contents
    from cxrbench.specs.recipe import Recipe
    from cxrbench.specs.task import TaskSpec
    from cxrbench.store.file_hashes import Ledger
    from cxrbench.types import Partition

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Place:
    """One task's split on this disk: the data root, the manifests' folder, the cache, and how many threads may read."""

    spec: "TaskSpec"
    partition: "Partition"
    root: Path
    manifests: Path
    cache: Path
    workers: int = 0

    @property
    def manifest(self) -> Path:
        """Where the split's manifest lies, if there is one."""
        return self.manifests / f"{self.partition.task}.{self.partition.split}.json"

    @property
    def images(self) -> int:
        """Images of the split, the missing ones too."""
        return len(self.partition.paths) + len(self.partition.findings.missing)

    def ledger(self, rehash: bool = False) -> "Ledger":
        """The table of file hashes."""
        from cxrbench.store.file_hashes import Ledger

        return Ledger(self.cache, self.root, rehash=rehash)

    @property
    def threads(self) -> int:
        """How many threads read."""
        from cxrbench.runner.request import Engine

        return Engine(workers=self.workers).threads


def prepare_images(place: Place, recipe: "Recipe") -> list[CxrBenchError]:
    """Read every image as a run with this recipe would; say and return what is wrong with them."""
    from cxrbench.data.reading import read_all
    from cxrbench.system.progress import progress_for

    name, found, ledger = place.spec.name, place.partition, place.ledger()
    read = read_all(found.paths, recipe, ledger, place.threads, progress_for(sys.stderr))
    echo(f"{name}: {len(found.paths) - read.lost} of {place.images} images read")
    missing = sorted({*found.findings.missing, *read.missing})
    if missing:
        echo(f"  missing: {len(missing)}, such as {', '.join(missing[:_SHOWN])}")
    for image, reason in read.unreadable.items():
        echo(f"  unreadable: {image}: {reason}")
    _tell_ledger(ledger)
    faults = [(missing, "images are missing"), (read.unreadable, "images cannot be read")]
    failed: list[CxrBenchError] = [DataError(f"{name}: {len(some)} {what}") for some, what in faults if some]
    return failed + _against_manifest(place, read.contents)


def _against_manifest(place: Place, contents: Mapping[str, str]) -> list[CxrBenchError]:
    """What differs from the split's manifest, if there is one."""
    from cxrbench.data.manifest import check, read_manifest

    if not place.manifest.exists():
        return []
    try:
        complaints = check(read_manifest(place.manifest), place.partition, contents)
    except CxrBenchError as error:
        echo(f"  {error}")
        return [error]
    for complaint in complaints:
        echo(f"  differs from {place.manifest}: {complaint}")
    return [DataError(f"{place.spec.name}: differs from its manifest")] if complaints else []


def verify_manifest(place: Place, rehash: bool) -> list[CxrBenchError]:
    """Hold the split and its images' bytes against the manifest, or write that; say and return what differs.

    Files are read where the ledger does not know them, or (`rehash`) all of them.
    """
    from cxrbench.data.contents import contents
    from cxrbench.data.manifest import check, manifest, read_manifest
    from cxrbench.system.progress import progress_for

    path, name, ledger = place.manifest, place.spec.name, place.ledger(rehash)
    expected = read_manifest(path) if path.exists() else None
    held = contents(place.partition.paths, ledger, place.threads, progress_for(sys.stderr))
    complaints = check(expected, place.partition, held.sha256) if expected else []
    verdict = "differs from" if complaints else "equals" if expected else "wrote"
    if expected is None:
        manifest(place.partition, held.sha256).write(path)
    echo(f"{name}: {verdict} {path} ({_scope(place, held, expected.contents if expected else held.sha256)})")
    for complaint in complaints:
        echo(f"  {complaint}")
    for image, reason in held.lost.items():
        echo(f"  not read: {image}: {reason}")
    _tell_ledger(ledger)
    lost: list[CxrBenchError] = [DataError(f"{name}: {len(held.lost)} images cannot be read")] if held.lost else []
    return [IntegrityError(f"{name}: differs from its manifest")] if complaints else lost


def _scope(place: Place, held: "Contents", expected: Mapping[str, str]) -> str:
    """What was looked at: rows and labels of all, and the bytes of how many files."""
    compared = sum(image in expected for image in held.sha256)
    return f"ids, order and labels; bytes of {compared} of {place.images} images, {held.read} of them read now"


def _tell_ledger(ledger: "Ledger") -> None:
    """Say what of the remembered hashes did not hold."""
    if ledger.unread:
        echo(f"  note: {ledger.unread} No hash in it was believed; the table of file hashes is begun anew")
    if ledger.damaged:
        echo(f"  note: {ledger.damaged} damaged lines of the table of file hashes were not believed")
    if changed := list(ledger.changed_unseen):
        shown = ", ".join(map(str, changed[:_SHOWN]))
        echo(
            f"  note: {len(changed)} files hold other bytes than when they were last read, though their size, times "
            f"and number are the same: {shown}. Is the disk sound?"
        )

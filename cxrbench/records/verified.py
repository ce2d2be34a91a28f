"""Which records were held against their predictions before, so that a table need not compute every number again."""

from contextlib import suppress
from pathlib import Path

from cxrbench.errors import UnreadableError
from cxrbench.records.record import Record, predictions_path, record_path
from cxrbench.store import digest
from cxrbench.store.sealed import DamagedError, read_regular, read_sealed, write_sealed
from cxrbench.system.sources import code_digest

MOST_BYTES = 1 << 30  # of a file of predictions


class Verified:
    """Pairs of files, by the digests of both, that agreed; kept in the cache for one version of the code that looked.

    What is edited has other bytes, so it is looked at again. A damaged or lost list costs time and nothing else.
    """

    def __init__(self, cache: Path, out: Path) -> None:
        self._out = out
        self._file = cache / "verified" / f"{code_digest('cxrbench.records.integrity')[:32]}.json"
        self._known = self._read()
        self._fresh: set[str] = set()

    def _read(self) -> set[str]:
        try:
            return {str(name) for name in read_sealed(self._file)}
        except (FileNotFoundError, DamagedError, UnreadableError, TypeError):
            return set()

    def name(self, record: Record) -> str | None:
        """The digest of a record's two files as they lie there; None where one of them cannot be read."""
        place = record_path(self._out, record.data.task, record.model.name, record.id)
        try:
            files = [place, predictions_path(self._out, record)]
            return digest.of_lines(digest.of_bytes(read_regular(file, MOST_BYTES)) for file in files)
        except (FileNotFoundError, DamagedError, UnreadableError):
            return None

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def add(self, name: str) -> None:
        """Remember a pair that agreed."""
        self._fresh.add(name)

    def keep(self) -> None:
        """Write what is new; a cache that cannot be written is none."""
        if self._fresh:
            with suppress(OSError):
                write_sealed(self._file, sorted(self._read() | self._fresh))

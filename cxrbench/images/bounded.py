"""Bytes for the header parsers of other libraries, which read hostile files in endlessly many pieces."""

import io
from types import TracebackType

from cxrbench.errors import ImageError

READS = 60_000  # about a second of parsing; a radiograph takes some hundreds


class BoundedBytes(io.BytesIO):
    """A file in memory that raises ImageError after READS reads; as a context, also if a library hid that error."""

    _left = READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As io.BytesIO."""
        self._left -= 1
        self._check()
        return super().read(size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._check()

    def _check(self) -> None:
        if self._left < 0:
            raise ImageError("its header has more parts than any radiograph's. Leave it out.")

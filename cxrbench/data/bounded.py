"""Bytes for the header parsers of other libraries, which read hostile files in endlessly many pieces."""

import io

from cxrbench.errors import ImageError

READS = 200_000  # a second or two of parsing; a radiograph takes some hundreds


class BoundedBytes(io.BytesIO):
    """A file in memory that raises ImageError after READS reads."""

    _left = READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As io.BytesIO."""
        self._left -= 1
        if self._left < 0:
            raise ImageError("its header has more parts than any radiograph's. Leave it out.")
        return super().read(size)

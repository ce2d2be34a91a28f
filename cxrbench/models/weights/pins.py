"""Digests of weights as first seen on this machine, by their place: what changes afterwards is noticed."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from pydantic import Field, ValidationError

from cxrbench.errors import IntegrityError
from cxrbench.store.schema import Facts, complaints
from cxrbench.store.sealed import DamagedError, read_sealed, write_sealed


class Pin(Facts):
    """A file when it was first used.

    `source`: SHA-256 of the published file that this one says it was converted from; `claim_accepted`: somebody took
    that on trust (`weights verify --accept`), since the published file was never read here.
    """

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int
    card: str
    first_seen: str
    source: str | None = None
    claim_accepted: bool = False


class _Pins(Facts):
    pins: Mapping[str, Pin] = {}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Pins:
    """The pins below one cache folder, a file that is replaced whole; several processes may use it at once."""

    def __init__(self, cache: Path) -> None:
        self.file = cache / "weights_pins.json"

    def read(self, path: Path) -> Pin | None:
        """The pin of a place; raises IntegrityError if the file of pins is damaged."""
        return self._all().get(str(path.resolve()))

    def hold(self, path: Path, pin: Pin, *, replaces: str | None = None) -> Pin:
        """The pin of a place, which becomes `pin` where there was none, or one with the digest `replaces`.

        Raises IntegrityError if any other digest was pinned.
        """
        place = str(path.resolve())
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.file}.lock"):
            pins = self._all()
            known = pins.get(place)
            if known is not None and known.sha256 == pin.sha256 and (known.claim_accepted or not pin.claim_accepted):
                return known
            if known is not None and known.sha256 not in (pin.sha256, replaces):
                raise changed(path, known, pin)
            write_sealed(self.file, _Pins(pins={**pins, place: pin}).model_dump(mode="json"))
        return pin

    def _all(self) -> Mapping[str, Pin]:
        try:
            return _Pins.model_validate(read_sealed(self.file)).pins
        except FileNotFoundError:
            return {}
        except (DamagedError, ValidationError) as error:
            reason = error.reason if isinstance(error, DamagedError) else complaints(error)
            raise IntegrityError(
                f"{self.file}: the digests of the weights first seen are damaged: {reason}. Restore this "
                "file, or remove it: then every file of weights counts as seen for the first time."
            ) from error


def changed(path: Path, known: Pin, pin: Pin) -> IntegrityError:
    """The error for a file that is not the one first seen at its place."""
    return IntegrityError(
        f"{path}: sha256 is {pin.sha256} ({pin.size} bytes); when it was first seen, {known.first_seen}, it was "
        f"{known.sha256} ({known.size} bytes). If you replaced it on purpose: "
        f"`cxrbench weights verify {pin.card} --accept`. If not, fetch it again."
    )

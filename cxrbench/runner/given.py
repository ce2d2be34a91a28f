"""Models whose vectors a file gives: which rows are those of which images, and what the file lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, SpecError
from cxrbench.models.vectors import VectorsFile, image_names
from cxrbench.runner.decoding import Encoder
from cxrbench.runner.model import BenchModel
from cxrbench.store.embeddings import CLOSE
from cxrbench.system.printable import printable

FloatArray = NDArray[np.float32]
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A file with what it may be called: its path `below` the data folder, and the `ids` that tasks give its image."""

    path: Path
    below: str
    ids: tuple[str, ...]


@dataclass(slots=True)
class Lookup:
    """The rows of one model's file of vectors by the images of a run."""

    model: BenchModel
    images: Mapping[Path, NamedImage]
    adapter: VectorsFile = field(init=False)

    def __post_init__(self) -> None:
        adapter = self.model.adapter
        if not isinstance(adapter, VectorsFile):
            card = self.model.card
            raise SpecError(f"{card.name}: adapter {card.adapter!r} reads no vectors from a file, as its recipe says")
        self.adapter = adapter

    def _names(self, path: Path, content: str | None) -> tuple[str, ...]:
        image = self.images[path]
        return image_names(self.adapter.options.key, path, image.below, image.ids, content)

    def _known(self, path: Path, content: str | None) -> list[str]:
        """The names of an image that the file has."""
        return [name for name in self._names(path, content) if name in self.adapter.places]

    def require_all(self, contents: Mapping[Path, str | None]) -> None:
        """Nothing, or DataError: the file lacks images of which it could be told, or a name stands for several images.

        `contents`: SHA-256 of the files' bytes, where they are remembered.
        """
        lost, owners, shared = list[str](), dict[str, Path](), list[str]()
        for path, content in contents.items():
            known = self._known(path, content)
            if not known and (names := self._names(path, content)):
                lost.append(f"{self.images[path].below} (as {names[0]!r})")
            for name in known:
                first = owners.setdefault(name, path)
                if first != path and (content is None or contents[first] != content):
                    shared.append(f"{name!r} is {self.images[first].below} and {self.images[path].below}")
        if shared:
            raise DataError(
                f"{self._where}: {len(shared)} names stand for several images: {_some(shared)}. Name images by "
                'key = "path" or "sha256", which are those of one file alone.'
            )
        if lost:
            raise self._lacks(lost, len(contents))

    def _lacks(self, lost: Sequence[str], wanted: int) -> DataError:
        own, key = next(iter(self.adapter.places)), self.adapter.options.key
        return DataError(
            f"{self._where} has no vectors of {len(lost)} of {wanted} images that are wanted: {_some(lost)}. By "
            f'key = "{key}" its names must be such as those in brackets; its first is {printable(own)!r}. Nothing is '
            "measured on a part of the images: add the others (`cxrbench encode --needed FOLDER "
            f"--model {self.adapter.card.word} --task TASK` writes all that are wanted), or mend `key` or `ids` on the "
            "card."
        )

    @property
    def _where(self) -> str:
        return f"{self.model.card.name}: {self.adapter.path}"

    def row(self, path: Path, content: str) -> FloatArray:
        """The vectors of an image, all taps one after the other; raises DataError where the file has none, or several.

        A vector that differs from another by 1e-3 of its largest value is another.
        """
        known = self._known(path, content)
        if not known:
            raise self._lacks([f"{self.images[path].below} (as {self._names(path, content)[0]!r})"], 1)
        first, *others = (self.adapter.row(name) for name in known)
        if any(_unlike(first, other) for other in others):
            raise DataError(f"{self._where}: the image {self.images[path].below} has other vectors as {_some(known)}")
        return first

    def require_alike(self, contents: Mapping[Path, str]) -> None:
        """Nothing, or DataError: files of the same bytes have different vectors, so names and vectors do not belong."""
        by_content: dict[str, list[Path]] = {}
        for path in self.images:
            if (content := contents.get(path)) is not None and self._known(path, content):
                by_content.setdefault(content, []).append(path)
        for content, copies in by_content.items():
            names = dict.fromkeys(self._known(path, content)[0] for path in copies)
            first, *others = (self.adapter.row(name) for name in names) if len(names) > 1 else [np.zeros(0, np.float32)]
            if any(_unlike(first, other) for other in others):
                raise DataError(
                    f"{self._where}: {_some(list(names))} are the same picture, byte for byte, and have different "
                    "vectors: were rows and names mixed up when they were written?"
                )


def _unlike(one: FloatArray, other: FloatArray) -> bool:
    return bool(np.abs(one - other).max() > CLOSE * np.abs(one).max())


def _some(told: Sequence[str]) -> str:
    return ", ".join(map(printable, told[:_SHOWN])) + (" and others" if len(told) > _SHOWN else "")


def looked_up(encoder: Encoder, lookup: Lookup, contents: Mapping[Path, str | None], *, read: bool) -> Encoder:
    """The encoder with rows in place of pixels; `read`: some will be wanted, so the file's vectors are read now.

    Raises what `Lookup.require_all` does of the files in `contents`, and what is wrong with the vectors.
    """
    lookup.require_all(contents)
    if read:
        lookup.adapter.read()
    return replace(encoder, look_up=lookup.row)


def below(path: Path, root: Path) -> str:
    """The path below the root of its data set, with `/`: the same on every machine."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()

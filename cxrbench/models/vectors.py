"""Encoders that cannot be loaded here (TensorFlow, an interface, a licence): their vectors, from a file."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from threading import RLock
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import DualEncoder, EngineReport, Padding, Runtime, checked_options
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.vectors_file import read_names, read_rows, require_unit
from cxrbench.specs.card import ModelCard, View
from cxrbench.store import digest
from cxrbench.store.file_hashes import Stamp, stamp
from cxrbench.store.schema import LocalPath, Spec
from cxrbench.system.printable import printable

FloatArray = NDArray[np.float32]
NameKind = Literal["id", "name", "stem", "path", "sha256"]
_SHOWN = 3


class Options(Spec):
    """How the file, which is the card's `weights`, names images, and where its vectors are.

    `key`: what `ids` holds of an image: the `id` that the task gives it, the `name` of its file, the `stem` (the name
    without its suffix, of several the last), the `path` below the task's data folder with `/`, or the `sha256` of its
    bytes. `vectors`: the column (Parquet) or array (NPZ) of each tap; in Parquet lists, or a pattern such as `f*` for a
    column a dimension. `unit_length`: bring all but `pooled`, and texts, to length 1 here.
    `texts`: a file beside the card, which may be the same one, with `text_ids` and their `text_vectors`; `logit_scale`:
    the factor from cosine to logit. Both go with [zero_shot].
    """

    key: NameKind
    ids: str = "ids"
    vectors: Mapping[str, str] = {"pooled": "vectors"}
    unit_length: bool = False
    texts: LocalPath | None = None
    text_ids: str = "texts"
    text_vectors: str = "text_vectors"
    logit_scale: float | None = Field(None, gt=0, allow_inf_nan=False)


def image_names(kind: NameKind, path: Path, below: str, ids: Sequence[str], content: str | None) -> tuple[str, ...]:
    """What a file of vectors may call an image; none where its `content` (SHA-256) is wanted and not yet known.

    `path`: of its file, `below` the data folder; `ids`: those that the tasks give it.
    """
    if kind == "id":
        return tuple(ids)
    if kind == "sha256":
        return () if content is None else (content,)
    return ({"name": path.name, "stem": path.stem, "path": below}[kind],)


class VectorsFile(DualEncoder):
    """The vectors of a file that something else computed, as taps; `encode_image` takes its rows in place of pixels.

    Rows are looked up by the names of images. The file is read whole when the first row is wanted, float32, and stays
    in memory once; its names are read before.
    """

    def __init__(self, card: ModelCard, options: Options, checkpoint: Checkpoint) -> None:
        self.card, self.options, self.path = card, options, checkpoint.path
        self.engine = EngineReport("cpu", "float32", "contiguous")
        self.log_scale = 0.0 if options.logit_scale is None else math.log(options.logit_scale)
        self._stamp: Stamp | None = stamp(self.path)
        self._lock = RLock()

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; the file of texts enters by its bytes."""
        options = read_options(card)
        texts = text_file(card, options)
        return digest.of_json([options.model_dump(mode="json"), None if texts is None else digest.of_file(texts)])

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """See `Adapter.load`; raises DataError for names that are no texts, or are missing."""
        found = cls(card, read_options(card), checkpoint)
        _ = found.places
        return found

    @cached_property
    def _names(self) -> list[str]:
        return read_names(self.path, self.options.ids)

    @cached_property
    def places(self) -> dict[str, int]:
        """The row of each name; of a name that is there several times the first."""
        found: dict[str, int] = {}
        for row, name in enumerate(self._names):
            found.setdefault(name, row)
        return found

    @cached_property
    def _taps(self) -> dict[str, FloatArray]:
        """The vectors (n, width) of every tap; a column that serves two is there once.

        Raises DataError for names that are there twice with different vectors, and IntegrityError if the file is not
        the one whose digest was taken.
        """
        read: dict[str, FloatArray] = {}
        for tap, column in self.options.vectors.items():
            width = self.card.taps[tap]
            if column not in read:
                read[column] = read_rows(self.path, column, len(self._names), width)
            elif read[column].shape[1] != width:
                raise SpecError(f"{self.card.name}: taps of {column!r} need one width, that of its vectors")
            if tap != "pooled" and not self.options.unit_length:
                require_unit(self.path, column, read[column])
        if self._stamp != stamp(self.path):
            raise IntegrityError(f"{self.path}: changed while it was read. Run again.")
        self._require_one_each(read)
        return {tap: read[column] for tap, column in self.options.vectors.items()}

    def _require_one_each(self, read: Mapping[str, FloatArray]) -> None:
        twice = {n: name for n, name in enumerate(self._names) if self.places[name] != n}
        wrong = dict.fromkeys(
            name
            for n, name in twice.items()
            if any(not np.array_equal(vectors[n], vectors[self.places[name]]) for vectors in read.values())
        )
        if wrong:
            raise DataError(
                f"{self.path}: {len(wrong)} names have several rows with different vectors: {_some(list(wrong))}. Keep "
                "one row of each."
            )

    def read(self) -> dict[str, FloatArray]:
        """The vectors of every tap, read at first use by whichever thread comes first; raises what reading does."""
        with self._lock:
            return self._taps

    def row(self, name: str) -> FloatArray:
        """The vectors of all taps of one image, one after the other in the order of the card's taps: (sum of widths,).

        Raises KeyError for a name that the file lacks.
        """
        at, taps = self.places[name], self.read()
        return np.concatenate(
            [self._unit(taps[tap][at]) if tap != "pooled" else taps[tap][at] for tap in self.card.taps]
        )

    def _unit(self, vectors: FloatArray) -> FloatArray:
        """Vectors (..., d) at length 1, where the card says so; one without a length stays as it is."""
        if not self.options.unit_length:
            return vectors
        exact = vectors.astype(np.float64)
        lengths = np.linalg.norm(exact, axis=-1, keepdims=True)
        if not lengths.all():
            raise DataError(f"{self.path}: a vector of zeros has no direction, so it cannot be brought to length 1")
        return (exact / lengths).astype(np.float32)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """Rows (N, sum of widths) as `row` gives them, as vectors; raises SpecError for pixels."""
        width = sum(self.card.taps.values())
        if pixels.ndim != 2 or pixels.shape[1] != width or pixels.dtype != torch.float32:
            raise SpecError(
                f"{self.card.name}: its vectors are given by {self.path.name}; it sees no pixels, and encodes no image"
            )
        parts = pixels.split(list(self.card.taps.values()), dim=1)
        return ImageFeatures(**dict(zip(self.card.taps, parts, strict=True)))

    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        """The texts' vectors (P, d) from the file; raises DataError for texts that it lacks, SpecError for no list."""
        if isinstance(texts, str) or not texts:
            raise SpecError(f"{self.card.name}: a list of at least one text is wanted")
        self.require_texts(self.card, texts)
        places = _text_places(self.card, self.options)
        return TextFeatures(torch.from_numpy(self.text_vectors()[[places[text] for text in texts]]))

    def text_vectors(self) -> FloatArray:
        """The vectors (n, d) of all texts of the file in its order; raises DataError as `read_rows` does."""
        return self._texts

    @cached_property
    def _texts(self) -> FloatArray:
        path, options = text_file(self.card, self.options), self.options
        assert path is not None
        names = read_names(path, options.text_ids)
        found = read_rows(path, options.text_vectors, len(names), self.card.taps[_views(self.card)[0].tap])
        if not options.unit_length:
            require_unit(path, options.text_vectors, found)
        places = _text_places(self.card, options)
        if wrong := [t for n, t in enumerate(names) if not np.array_equal(found[n], found[places[t]])]:
            raise DataError(f"{path}: {len(wrong)} texts have several rows with different vectors: {_some(wrong)}")
        return self._unit(found)

    @classmethod
    def require_texts(cls, card: ModelCard, texts: Sequence[str]) -> None:
        """Raise DataError that names the texts of which the file has no vector, if there are any."""
        options = read_options(card)
        there = _text_places(card, options)
        if lost := [text for text in dict.fromkeys(texts) if text not in there]:
            raise DataError(
                f"{card.name}: {options.texts} has no vector of {len(lost)} of {len(dict.fromkeys(texts))} texts: "
                f"{_some(lost)}. They are wanted letter by letter; `cxrbench encode --needed FOLDER "
                f"--model {card.word} --task TASK` with the run's tasks, protocols and prompts writes all of them."
            )

    def logit_scale(self, view: str) -> float:
        """The factor that the card gives."""
        if view not in self.card.views or self.options.logit_scale is None:
            raise SpecError(f"{self.card.name} has no view {view!r}")
        return self.options.logit_scale


def read_options(card: ModelCard) -> Options:
    """The options of a card; raises SpecError where they do not fit its taps and views."""
    options = checked_options(card, Options)
    taps, views = set(card.taps), _views(card)
    if not card.given:
        raise SpecError(
            f'{card.name}: vectors from a file: write `kind = "given"` as its recipe, which claims no other'
        )
    if taps != set(options.vectors) or not taps <= {"pooled", "joint", "label"}:
        raise SpecError(
            f"{card.name}: options.vectors names {', '.join(options.vectors)}, and taps {', '.join(card.taps)}: "
            "name the column of each tap, which are `pooled` and, where they are, `joint` and `label`"
        )
    if not views:
        return options
    if options.texts is None or options.logit_scale is None:
        raise SpecError(f"{card.name}: [zero_shot] needs the options `texts` and `logit_scale`; or leave it out")
    of_vectors = all(view.scoring == "cosine" and view.classes == "prompts" and view.tap != "pooled" for view in views)
    if not of_vectors or len({card.taps[view.tap] for view in views}) > 1:
        raise SpecError(
            f"{card.name}: a view of vectors from a file takes cosines with prompts, by a tap of unit vectors such as "
            '`joint` (it may name the same column as `pooled`): scoring = "cosine", classes = "prompts"'
        )
    if card.zero_shot is not None and card.zero_shot.pooling == "projected-embedding":
        raise SpecError(f'{card.name}: pooling = "projected-embedding" needs texts before unit length; take another')
    return options


def _views(card: ModelCard) -> list[View]:
    return list(card.views.values())


def text_file(card: ModelCard, options: Options) -> Path | None:
    """The file of the texts' vectors; raises DataError where it is not there."""
    if options.texts is None:
        return None
    path = card.home / options.texts
    if not path.is_file():
        raise DataError(
            f"{card.name}: there is no {path}, which is to hold the vectors of its texts. "
            f"`cxrbench encode --needed FOLDER --model {card.word} --task TASK` writes which texts a run asks for."
        )
    return path


def _text_places(card: ModelCard, options: Options) -> dict[str, int]:
    """The row of each text; raises SpecError for a card that names no file of texts."""
    path = text_file(card, options)
    if path is None:
        raise SpecError(f"{card.name} has no vectors of texts; only protocols without texts can score it")
    return _places_at(path, options.text_ids, stamp(path))


@lru_cache(maxsize=16)
def _places_at(path: Path, column: str, at: Stamp | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for row, name in enumerate(read_names(path, column)):
        found.setdefault(name, row)
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(printable(name)) for name in names[:_SHOWN]) + (" and others" if len(names) > _SHOWN else "")


class NeededVectors(VectorsFile):
    """A stand-in that needs no file: what a run would ask of one is worked out with it."""

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; of nothing that is stored."""
        return digest.of_json(read_options(card).model_dump(mode="json"))

    @classmethod
    def require_texts(cls, card: ModelCard, texts: Sequence[str]) -> None:
        """Takes every text."""

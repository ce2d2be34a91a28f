"""Vectors of a folder or table of images that belongs to no task, into one Parquet file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.listing import image_stem, listing
from cxrbench.errors import CxrBenchError, DataError, SpecError
from cxrbench.runner.filling import Filled, Filling
from cxrbench.runner.given import Lookup, NamedImage, looked_up
from cxrbench.runner.model import bench_model, chosen_device
from cxrbench.runner.request import Engine, Places
from cxrbench.specs import catalog
from cxrbench.store.atomic import written_whole
from cxrbench.store.embeddings import Embeddings, Key, Store
from cxrbench.store.file_hashes import FileHashes
from cxrbench.system.contained import contained

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("path", "file", "image")  # of a table, the first that is there
_AT_ONCE = 4096  # rows of a group of the Parquet file


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """Models, and the images of a folder, or of a CSV or Parquet table with a column `path`, `file` or `image`.

    Paths in a table are absolute, or stand below the table's folder.
    """

    models: tuple[str, ...]
    images: Path
    places: Places
    engine: Engine

    def filling(self) -> Filling:
        """See `StoreJob`; raises DataError for a folder without images or what is no table, SpecError for no model."""
        root, names = image_names(self.images, self.places.cache)
        files = tuple(root / name for name in names)
        hashes = FileHashes(self.places.cache, root)
        encoders, titles, problems = [], dict[Key, str](), list[CxrBenchError]()
        device, words = chosen_device(self.engine.device), self._models()
        for word in words:
            try:
                card = catalog.load_card(word)
                model = bench_model(card, self.places, self.engine, device, alone=len(words) == 1)
                recipe = card.recipe("reality-check")
                encoder = model.encoder(recipe, None, card.name)
                if card.given:
                    named = {file: NamedImage(file, name, (name,)) for file, name in zip(files, names, strict=True)}
                    known = dict(zip(files, hashes.known_all(files), strict=True))
                    encoder = looked_up(encoder, Lookup(model, named), known, read=True)
                encoders.append(encoder)
                titles[model.key(recipe)] = card.name
            except SpecError:
                raise
            except BaseException as error:
                problems.append(contained(error, word))
        places = np.arange(len(files))
        return Filling(
            files,
            names,
            hashes.known_all(files),
            dict.fromkeys(titles, places),
            encoders,
            titles,
            Store(self.places.cache),
            lambda path: hashes,
            self.engine,
            problems=problems,
        )

    def _models(self) -> list[str]:
        files = [word for word in self.models if word.endswith(".toml")]
        return [*catalog.select([w for w in self.models if w not in files], catalog.card_files(), "model"), *files]


def image_names(images: Path, cache: Path) -> tuple[Path, list[str]]:
    """The folder, and the images' paths below it in the order of the table, or sorted; each once.

    Raises DataError where there is none, or what is no table.
    """
    if images.is_dir():
        found = sorted(name for name in listing(images, cache=cache).files if image_stem(name) is not None)
        if not found:
            raise DataError(f"{images}: holds no image (DICOM, PNG, JPEG and so on); name the folder above them")
        return images, found
    if not images.is_file():
        raise DataError(f"{images}: there is no such folder or table")
    names = [str(name) for name in _column(images) if name is not None and str(name)]
    if not names:
        raise DataError(f"{images}: names no image")
    return images.parent, list({Path(name): name for name in reversed(names)}.values())[::-1]


def _column(table: Path) -> Sequence[Any]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if table.suffix.lower() == ".parquet":
            read = parquet.read_table(table)
        else:
            text = csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.string()))
            read = csv.read_csv(table, convert_options=text)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{table}: is no CSV or Parquet table: {str(error).splitlines()[0]}") from error
    named = next((name for name in _COLUMNS if name in read.column_names), None)
    if named is None:
        raise DataError(f"{table}: has none of the columns {', '.join(_COLUMNS)}, but {', '.join(read.column_names)}")
    column: Sequence[Any] = read.column(named).to_pylist()
    return column


def require_target(path: Path) -> Path:
    """The path; raises SpecError unless it names a Parquet file."""
    if path.suffix.lower() != ".parquet":
        raise SpecError(f"--to {path}: vectors are written as Parquet; give a name that ends in .parquet")
    return path


def write_vectors(filling: Filling, filled: Filled, target: Path) -> int:
    """One row an image: `path`, `sha256`, a list of float32 for each model's tap, and why there is none; returns rows.

    An image without vectors of a model has null there, and in `problem` the reason. The metadata `cxrbench` of the
    schema is JSON: by model the key of its vectors, that is adapter, code, weights, recipe and precision by their
    digests. Whole or not at all. Raises IntegrityError for rows that the store lost meanwhile.
    """
    from pyarrow import parquet

    stored = {key: filling.store.read(key) for key in filling.titles}
    widths = {key: dict(encoder.outputs[key]) for encoder in filling.encoders for key in encoder.outputs}
    schema = _schema(filling, widths)
    reasons = {**filled.unreadable, **filled.missing}
    with written_whole(target) as made, parquet.ParquetWriter(made, schema) as writer:
        for first in range(0, len(filling.files), _AT_ONCE):
            rows = slice(first, first + _AT_ONCE)
            contents = [filled.contents.get(name) for name in filling.names[rows]]
            writer.write_batch(_batch(filling, schema, filling.names[rows], contents, reasons, stored, widths))
    return len(filling.files)


def _schema(filling: Filling, widths: Mapping[Key, Mapping[str, int]]) -> "pa.Schema":
    import pyarrow as pa

    taps = [
        pa.field(f"{filling.titles[key]}.{tap}", pa.list_(pa.float32(), dim))
        for key, own in widths.items()
        for tap, dim in own.items()
    ]
    fields = [pa.field("path", pa.string()), pa.field("sha256", pa.string()), *taps, pa.field("problem", pa.string())]
    about = {title: asdict(key) for key, title in filling.titles.items()}
    return pa.schema(fields, metadata={"cxrbench": json.dumps(about)})


def _batch(
    filling: Filling,
    schema: "pa.Schema",
    names: Sequence[str],
    contents: Sequence[str | None],
    reasons: Mapping[str, str],
    stored: Mapping[Key, Embeddings],
    widths: Mapping[Key, Mapping[str, int]],
) -> "pa.RecordBatch":
    import pyarrow as pa

    told = [name.encode("utf-8", "backslashreplace").decode() for name in names]  # names of files need not be Unicode
    columns: list[Any] = [pa.array(told, pa.string()), pa.array(contents, pa.string())]
    without: list[list[str]] = [[] for _ in names]
    for key, taps in widths.items():
        lacking = _lacking(stored[key], contents)
        for place in np.flatnonzero(lacking).tolist():
            without[place].append(filling.titles[key])
        columns += [_vectors(stored[key], tap, dim, contents, lacking) for tap, dim in taps.items()]
    problems = [
        reasons.get(name) or (f"no vectors of {', '.join(models)}" if models else None)
        for name, models in zip(names, without, strict=True)
    ]
    columns.append(pa.array(problems, pa.string()))
    return pa.record_batch(columns, schema=schema)


def _lacking(found: Embeddings, contents: Sequence[str | None]) -> NDArray[np.bool_]:
    known = np.array([content is not None for content in contents], np.bool_)
    lacking = ~known
    lacking[known] = ~found.has([content for content in contents if content is not None])
    return lacking


def _vectors(
    found: Embeddings, tap: str, dim: int, contents: Sequence[str | None], lacking: NDArray[np.bool_]
) -> "pa.FixedSizeListArray":
    import pyarrow as pa

    values = np.zeros((len(contents), dim), np.float32)
    images = [content for content, lost in zip(contents, lacking, strict=True) if content is not None and not lost]
    if images:
        values[~lacking] = found.rows(tap, images)
    return pa.FixedSizeListArray.from_arrays(values.reshape(-1), dim, mask=pa.array(lacking))

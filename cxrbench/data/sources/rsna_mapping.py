"""Which NIH ChestX-ray14 picture each RSNA image is: the only way to its patient."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cxrbench.data import tables
from cxrbench.data.presence import is_file
from cxrbench.errors import DataError

FILE = "pneumonia-challenge-dataset-mappings_2018.json"
_TABLE, _ERROR = "rsna_to_nih", "mse"
DOUBTFUL = 10.0  # mean squared error of small grey squares: about 1.2 of one picture, above 30 of unrelated ones


@dataclass(frozen=True, slots=True)
class Mapped:
    """Image id to NIH file name, and, where the file gives them, to the SOP instance UID of the MD.ai export.

    `doubtful`: images that a table of matched pictures gives with an error above `DOUBTFUL`.
    """

    path: Path
    nih: Mapping[str, str]
    uids: Mapping[str, str] = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()

    def patient(self, image: str) -> str:
        """The NIH patient (first eight characters); an image that is not mapped is a patient of its own."""
        return self.nih[image][:8] if image in self.nih else f"image:{image}"


def mapping(folder: Path) -> Mapped | None:
    """RSNA's own mapping file, or a table `rsna_to_nih.csv` (patientId, nih_image_index; mse too where pictures were
    matched); None if neither is there.

    Raises DataError if the file is not what its name says, or if there is only one of nearly that name.
    """
    path = folder / FILE
    if is_file(path):
        return _from_json(path)
    table = tables.named(folder, _TABLE)
    if table is None:
        if hint := tables.near_hint(folder, _TABLE):
            raise DataError(f"{folder}: there is no {_TABLE}.csv.{hint}")
        return None
    matched = _ERROR in tables.header(table)
    rows = tables.read_table(table, ("patientId", "nih_image_index", *([_ERROR] if matched else ())))
    tables.distinct(table, rows, "patientId")
    ids = tables.bare_ids(table, rows, "patientId")[0]
    nih = dict(zip(ids, rows["nih_image_index"], strict=True))
    return Mapped(table, nih, doubtful=_doubtful(table, ids, rows[_ERROR]) if matched else frozenset())


def _doubtful(path: Path, images: Iterable[str], errors: Iterable[str]) -> frozenset[str]:
    try:
        return frozenset(image for image, error in zip(images, errors, strict=True) if not float(error) <= DOUBTFUL)
    except ValueError as fault:
        raise DataError(f"{path}: column {_ERROR} holds what is no number: {fault}") from fault


def _from_json(path: Path) -> Mapped:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        entries = json.loads(data)
        if not isinstance(entries, list) or not entries:
            raise ValueError("no list, or an empty one")
        nih = {str(entry["subset_img_id"]): str(entry["img_id"]) for entry in entries}
        uids = {str(e["subset_img_id"]): str(e["SOPInstanceUID"]) for e in entries if e.get("SOPInstanceUID")}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: is no list of entries with subset_img_id and img_id ({error}). Download it again."
        ) from error
    return Mapped(path, nih, uids)

"""Which NIH ChestX-ray14 picture each RSNA image is: the only way to its patient."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cxrbench.data import tables
from cxrbench.data.presence import is_file
from cxrbench.errors import DataError

FILE = "pneumonia-challenge-dataset-mappings_2018.json"
_TABLE = "rsna_to_nih"


@dataclass(frozen=True, slots=True)
class Mapped:
    """Image id to NIH file name, and, where the file gives them, to the SOP instance UID of the MD.ai export."""

    path: Path
    nih: Mapping[str, str]
    uids: Mapping[str, str] = field(default_factory=dict)

    def patient(self, image: str) -> str:
        """The NIH patient (first eight characters); an image that is not mapped is a patient of its own."""
        return self.nih[image][:8] if image in self.nih else f"image:{image}"


def mapping(folder: Path) -> Mapped | None:
    """RSNA's own mapping file, or a table `rsna_to_nih.csv` (patientId, nih_image_index); None if neither is there.

    Raises DataError if the file is not what its name says.
    """
    path = folder / FILE
    if is_file(path):
        return _from_json(path)
    table = tables.named(folder, _TABLE)
    if table is None:
        return None
    rows = tables.read_table(table, ("patientId", "nih_image_index"))
    tables.distinct(table, rows, "patientId")
    return Mapped(table, dict(zip(rows["patientId"], rows["nih_image_index"], strict=True)))


def _from_json(path: Path) -> Mapped:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        entries = json.loads(data)
        nih = {str(entry["subset_img_id"]): str(entry["img_id"]) for entry in entries}
        uids = {str(e["subset_img_id"]): str(e["SOPInstanceUID"]) for e in entries if e.get("SOPInstanceUID")}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: is no list of entries with subset_img_id and img_id ({error}). Download it again."
        ) from error
    return Mapped(path, nih, uids)

"""One plate: drawn, encoded, written; and where its findings ended up."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.phantom.anatomy import FloatArray, Patient, patient
from cxrbench.phantom.draw import Sketch, enlarged, sketch
from cxrbench.phantom.lateral import lateral
from cxrbench.phantom.plate import Developed, Plate, Region, generator

JPEG_QUALITY = 90


def develop(plate: Plate, root: Path, seed: int, runs: bool) -> Developed:
    """Write one plate under `root`; `runs` asks for run lengths of its regions."""
    rng = generator(seed, plate.path)
    person = _again(patient(generator(seed, "patient", plate.patient), plate.child), rng)
    target = root / plate.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if plate.view == "lateral":
        target.write_bytes(_encoded(lateral(person, plate.size, rng), plate))
        return Developed(plate, ())
    drawn = sketch(plate.findings, person, plate.size, rng)
    target.write_bytes(_encoded(drawn.image, plate))
    if plate.lung_mask:
        _write_mask(drawn.lungs, root / plate.lung_mask)
    return Developed(plate, tuple(_regions(drawn, plate, runs)))


def _again(person: Patient, rng: np.random.Generator) -> Patient:
    """The same patient at another visit: another position and exposure."""
    other = patient(rng, person.child)
    return replace(other, female=person.female, scale=person.scale, build=person.build, heart=person.heart)


def _encoded(image: FloatArray, plate: Plate) -> bytes:
    if plate.container in {"dicom-raw", "dicom-j2k"}:
        from cxrbench.phantom.dicom import deep_file

        return deep_file(image, plate.header, int(plate.row["bits"]), plate.container == "dicom-j2k")
    if plate.container == "png-deep":
        return _deep_png(image, int(plate.row["bits"]))
    grey = np.rint(image * 255).astype(np.uint8)
    if plate.container == "dicom-jpeg":
        from cxrbench.phantom.dicom import jpeg_file

        return jpeg_file(grey, plate.header)
    stream, picture = io.BytesIO(), Image.fromarray(grey)
    if plate.container == "jpeg":
        picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    else:
        mode = {"png": "L", "png-rgb": "RGB", "png-rgba": "RGBA"}[plate.container]
        picture.convert(mode).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def _deep_png(image: FloatArray, bits: int) -> bytes:
    """16 bits a pixel, of which only `bits` are used, as in PadChest."""
    stream = io.BytesIO()
    Image.fromarray(np.rint(image * ((1 << bits) - 1)).astype(np.uint16)).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def _write_mask(lungs: FloatArray, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(enlarged(lungs, (256, 256)) > 0.5, 255, 0).astype(np.uint8)).save(target, "PNG")


def _regions(drawn: Sketch, plate: Plate, runs: bool) -> Iterator[Region]:
    middle = _middle(drawn.lungs)
    for finding, mask in drawn.regions:
        solid = enlarged(mask, plate.size) > 0.35 * float(mask.max())
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        if rows.size == 0 or mask.max() < 0.05:
            continue
        share = float(mask[:, :middle].sum() / mask.sum())
        yield Region(
            finding,
            left=int(columns[0]),
            top=int(rows[0]),
            width=int(columns[-1] - columns[0] + 1),
            height=int(rows[-1] - rows[0] + 1),
            side="right" if share > 0.8 else "left" if share < 0.2 else "bilateral",
            runs=run_lengths(solid) if runs else "",
        )


def _middle(lungs: FloatArray) -> int:
    """The column that parts the lungs' area in two halves."""
    return int(np.searchsorted(np.cumsum(lungs.sum(axis=0)), lungs.sum() / 2))


def run_lengths(mask: NDArray[np.bool_]) -> str:
    """SIIM's code of a mask (H, W): offset from the end of the last run, then length, column by column."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask.T.ravel(), [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    offsets = starts - np.concatenate(([0], ends[:-1]))
    return " ".join(f"{o} {n}" for o, n in zip(offsets.tolist(), (ends - starts).tolist(), strict=True))

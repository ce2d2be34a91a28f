"""One plate: drawn, encoded, written; and where its findings ended up."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.phantom.draw import Sketch, enlarge, film, sketch
from cxrbench.phantom.plate import Developed, Plate, Region, Text, generator
from cxrbench.phantom.scene import FloatArray, Patient, Scene, Shape, grid, patient, within

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIGITAL_X_RAY = "1.2.840.10008.5.1.4.1.1.1.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
ROOT = "1.2.276.0.7230010.3"


def jpeg_file(grey: NDArray[np.uint8], header: Text) -> bytes:
    """(H, W) uint8 as a MONOCHROME2 CR file with one JPEG Baseline frame; header: DICOM keyword to value."""
    from pydicom.encaps import encapsulate

    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=90)
    dataset = _dataset(grey, header, SECONDARY_CAPTURE, JPEG_BASELINE)
    dataset.Modality = "CR"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    _depth(dataset, allocated=8, stored=8)
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].VR = "OB"
    return _bytes(dataset)


def deep_file(grey: NDArray[np.float32], header: Text, bits: int, compressed: bool) -> bytes:
    """(H, W) 0..1 as a DX file of 12 to 16 bits; MONOCHROME1 in the header stores the negative.

    `compressed` writes JPEG 2000 lossless instead of plain values.
    """
    top = (1 << bits) - 1
    value = 1 - grey if header["PhotometricInterpretation"] == "MONOCHROME1" else grey
    stored = np.rint(np.clip(value, 0, 1) * top).astype("<u2")
    dataset = _dataset(stored, header, DIGITAL_X_RAY, EXPLICIT_LITTLE_ENDIAN)
    dataset.Modality = "DX"
    _depth(dataset, allocated=16, stored=bits)
    dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
    dataset.WindowCenter, dataset.WindowWidth = str((top + 1) // 2), str(top + 1)
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    if compressed:
        dataset.compress(JPEG_2000_LOSSLESS, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    return _bytes(dataset)


def _dataset(pixels: NDArray[Any], header: Text, kind: str, syntax: str) -> Any:
    from pydicom.config import disable_value_validation
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.SOPClassUID = kind
    dataset.SpecificCharacterSet = "ISO_IR 100"
    with disable_value_validation():  # RSNA and SIIM give an age without its unit
        for keyword, value in header.items():
            setattr(dataset, keyword, value.split("\\") if "\\" in value else value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.ImplementationClassUID = f"{ROOT}.0.3.6.0"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = pixels.shape
    return dataset


def _depth(dataset: Any, allocated: int, stored: int) -> None:
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, stored - 1
    dataset.PixelRepresentation = 0


def _bytes(dataset: Any) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def lateral(patient: Patient, size: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A lateral radiograph of a healthy chest, (H, W) float32 0..1; the breastbone is at image left."""
    share = min(1, 384 / max(size))
    board = grid(max(1, round(size[0] * share)), max(1, round(size[1] * share)), patient)
    x, y = board.x, board.y
    torso = within(np.abs(x) - 0.62 - 0.06 * y, 0.03) * within(-0.8 - y + 0.3 * np.abs(x), 0.05)
    front, back = -0.42 + 0.25 * np.clip(-y, 0, 1), 0.48 - 0.15 * y**2
    dome = 0.42 + 0.35 * np.clip(x + 0.3, 0, 1)
    lung = within(front - x, 0.03) * within(x - back, 0.03) * within(y - dome, 0.03) * within(-0.62 - y, 0.1)
    depth = torso * (0.9 * patient.build) * (1 - 0.6 * lung) + torso * np.clip((y - 0.2) / 0.5, 0, 1) * (1 - lung) * 0.5
    scene = Scene(board, Shape(), depth, lung, np.zeros_like(lung))
    scene.add(scene.disc((-0.2, 0.24), (0.27, 0.22), 0.04, angle=0.4) * lung, 0.45)
    scene.add(scene.disc((0.02, -0.05), (0.12, 0.12), 0.1) * lung, 0.25)
    spine = within(np.abs(x - 0.46 + 0.15 * y**2) - 0.08, 0.02) * torso
    scene.add(spine * (0.75 + 0.25 * np.cos(y * (2 * np.pi / 0.15))), 0.3)
    scene.add(np.clip(np.cos((y - 0.5 * x) * 42), 0, 1) * lung, 0.1)
    return film(scene.depth, patient, size, rng)


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
        return deep_file(image, plate.header, int(plate.row["bits"]), plate.container == "dicom-j2k")
    if plate.container == "png-deep":
        return _deep_png(image, int(plate.row["bits"]))
    grey = np.rint(image * 255).astype(np.uint8)
    if plate.container == "dicom-jpeg":
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
    Image.fromarray(np.where(enlarge(lungs, (256, 256)) > 0.5, 255, 0).astype(np.uint8)).save(target, "PNG")


def _regions(drawn: Sketch, plate: Plate, runs: bool) -> Iterator[Region]:
    middle = _middle(drawn.lungs)
    for finding, mask in drawn.regions:
        solid = enlarge(mask, plate.size) > 0.35 * float(mask.max())
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

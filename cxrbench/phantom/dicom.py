"""Grey arrays as DICOM files: JPEG Baseline as RSNA and SIIM are, 12 to 16 bits as VinDr-PCXR is."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.phantom.plate import Text

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

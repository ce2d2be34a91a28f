"""Preprocessing as data: everything that happens between the bytes of a file and the pixels that a network sees."""

from typing import Literal

from pydantic import Field, model_validator

from cxrbench import digest
from cxrbench.schema import Facts


class Recipe(Facts):
    """From file bytes to a float32 array (channels, size, size); its digest is part of every embedding's key.

    `decode`: `official` is the arithmetic of the paper's released reader (stored DICOM values, min-max only outside
    0..255, JPEG decoded at a reduced scale, first channel of colour PNG, palette indices as grey); `radiograph` follows
    the file's own header (rescale, VOI window, photometric interpretation, palette, bit depth, EXIF orientation).
    `polarity` (official only): grey values as stored, negated whatever the header says, or by the header.
    `geometry` `canvas`: long side to `size`, aspect kept, zeros to the right and at the bottom.
    `antialias`: torchvision's argument for the bilinear resize of tensors; off up to 0.16, on since 0.17.
    `floor`: `released` computes the long side as int(side / (side / size)) in floating point, which gives one pixel
    less for some sizes; `exact` always gives `size`.
    `mean`, `std`: subtracted and divided after the padding, on the 0..1 scale; one value, or one per channel.
    """

    decode: Literal["official", "radiograph"] = "official"
    polarity: Literal["stored", "negated", "header"] = "stored"
    geometry: Literal["canvas"] = "canvas"
    size: int = Field(224, ge=1, le=4096)
    antialias: bool = False
    floor: Literal["released", "exact"] = "released"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: Literal[3] = 3

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if len(self.mean) not in (1, self.channels) or len(self.std) != len(self.mean):
            raise ValueError(f"mean and std need one value or {self.channels}, both the same number")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        if self.decode == "radiograph" and self.polarity != "header":
            raise ValueError("decode 'radiograph' follows the header: polarity must be 'header'")
        return self

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all fields: two recipes with one digest give the same pixels."""
        return digest.of_json(self.model_dump(mode="json"))

"""Parity certificates: what the authors' own code computes on a checkpoint with synthetic weights in their layout.

One folder a model under `model_zoo/certificates/`: `certificate.toml` with the facts, `layout.json.gz` with names,
shapes and dtypes of the published file's tensors, `figures.npz` with the authors' outputs, `text/` with a small
tokenizer. Weights and pictures are not stored: they follow from `cxrbench.models.made`, seed 0. No torch here.
"""

import gzip
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from cxrbench.errors import IntegrityError
from cxrbench.models import made
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard, RecipeName, read_card
from cxrbench.specs.recipe import Recipe
from cxrbench.store.schema import Spec, read_toml

Output = Literal["pixels", "pooled", "joint", "label", "text-joint", "text-projected", "score", "label-score"]
PIXEL_STEP = 16  # every sixteenth row and column of the first channel is kept
SEED = 0


class CertifiedFigure(Spec):
    """One output beside `stored`, the authors' figure for it in `figures.npz`.

    `form`: the figure as it is (`same`), its rows at unit length (`unit`), or the logistic function of our output
    against it (`sigmoid`). `by`: `spread`, rows relative to their largest value, also after the mean row is taken off,
    since synthetic weights give rows that are nearly alike; `rows`, without the second, for scores that are too alike
    for it; `absolute`, for scores near zero.
    """

    output: Output
    stored: str
    form: Literal["same", "unit", "sigmoid"] = "same"
    by: Literal["spread", "rows", "absolute"] = "spread"


class Run(Spec):
    """The made pictures through one recipe. `recipe`: of the card by name, or spelled out where the authors publish
    another one beside it; `used`: whose way of using the network inside the adapter."""

    recipe: Annotated[RecipeName | Recipe, Field(union_mode="left_to_right")]
    used: RecipeName
    figures: tuple[CertifiedFigure, ...] = Field(min_length=1)


class Certificate(Spec):
    """`certificate.toml`. Paths are relative to its folder; `..` leads to what several certificates share.

    `models`: cards with this architecture; `reduced`: what is smaller than in the published file, `[here, published]`;
    `pictures`: how many, of `height` x `width`; `text_layout`: of the text encoder's own weights, where the card names
    any; `classes`: for `label-score`, in the order of its columns.
    """

    title: str
    source: str
    models: tuple[str, ...] = Field(min_length=1)
    reduced: Mapping[str, tuple[int, int]] = {}
    layout: str = "layout.json.gz"
    figures: str = "figures.npz"
    text: str | None = None
    text_layout: str | None = None
    pictures: int = 2
    height: int = 320
    width: int = 260
    prompts: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    runs: tuple[Run, ...] = Field(min_length=1)
    _home: Path = PrivateAttr(default_factory=Path)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self._home.name

    def place(self, file: str) -> Path:
        """A path of the certificate as one of this machine."""
        return (self._home / file).resolve()

    def golden(self) -> dict[str, NDArray[Any]]:
        """All stored figures by name; raises IntegrityError if the file is damaged or lacks one that is named."""
        path = self.place(self.figures)
        try:
            with np.load(path, allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise IntegrityError(f"{path}: cannot be read ({error}). Install cxrbench again.") from error
        lost = sorted({figure.stored for run in self.runs for figure in run.figures} - found.keys())
        if lost:
            raise IntegrityError(f"{path}: lacks {', '.join(lost)}. Install cxrbench again.")
        return found

    def weights(self) -> dict[str, NDArray[Any]]:
        """The published file's tensors with made values, in its order."""
        return made_tensors(read_layout(self.place(self.layout)))

    def text_weights(self) -> dict[str, NDArray[Any]] | None:
        """The tensors of the text encoder's own file, where there is one."""
        return None if self.text_layout is None else made_tensors(read_layout(self.place(self.text_layout)))

    def images(self) -> NDArray[np.uint8]:
        """The made pictures (pictures, height, width)."""
        return made.images(self.pictures, self.height, self.width, SEED)


def read_layout(path: Path) -> dict[str, Any]:
    """A layout file: `tensors`, `aliases`, `not_from_fill` and what else it tells; IntegrityError if it is damaged."""
    try:
        return dict(json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise IntegrityError(f"{path}: cannot be read ({error}). Install cxrbench again.") from error


def made_tensors(layout: Mapping[str, Any], seed: int = SEED) -> dict[str, NDArray[Any]]:
    """The tensors of a layout in its order.

    Names in `aliases` share the array of their target; where the last part of a name is in `not_from_fill`, its values
    are given there.
    """
    aliases, given = layout.get("aliases", {}), layout.get("not_from_fill", {})
    found: dict[str, NDArray[Any]] = {}
    for name, shape, dtype in layout["tensors"]:
        end = name.rpartition(".")[2]
        if end in given:
            found[name] = np.array(given[end], dtype=dtype)
        elif name not in aliases:
            found[name] = made.fill(name, shape, dtype, seed)
    return {name: found[aliases.get(name, name)] for name, *_ in layout["tensors"]}


def read_certificate(folder: Path) -> Certificate:
    """The certificate in a folder; raises SpecError that names the file, the key and what was expected there."""
    found = read_toml(folder / "certificate.toml", Certificate)
    found._home = folder.resolve()
    return found


def certificates(folder: Path | None = None) -> Iterable[Certificate]:
    """All certificates of a folder, by default those of the package, by name."""
    place = paths.folder("model_zoo") / "certificates" if folder is None else folder
    return (read_certificate(path.parent) for path in sorted(place.glob("*/certificate.toml")))


def certificate_for(card: ModelCard, folder: Path | None = None) -> Certificate | None:
    """The certificate that holds for a card: of a card of the zoo with its adapter, options, taps and recipes.

    None where there is none, as for an architecture of the user's own.
    """
    for found in certificates(folder):
        zoo = (read_card(paths.folder("model_zoo") / f"{name}.toml") for name in found.models)
        if any(_same(card, other) for other in zoo):
            return found
    return None


def _same(card: ModelCard, other: ModelCard) -> bool:
    kept = ("adapter", "options", "taps", "recipes")
    return all(getattr(card, field) == getattr(other, field) for field in kept)

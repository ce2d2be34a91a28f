"""MedKLIP and KAD with synthetic weights in the published layouts, and what the authors' code made of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from made_weights import certificate, figures, published_tensors, zoo_card
from torch import Tensor

from cxrbench.models.base import Adapter, load_adapter
from cxrbench.models.nets import relative_difference

Golden = dict[str, np.ndarray]
Tensors = dict[str, Tensor]
NAMES = ("medklip", "kad", "kad_224")
OTHER = {"optimizer": {}, "lr_scheduler": {}, "config": {"image_res": 224}, "epoch": 3}
MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def golden(name: str) -> Golden:
    """The committed figures of a model, seed 0."""
    return figures(name)


def prompts(name: str) -> list[str]:
    """The texts behind the golden text rows."""
    return list(certificate(name).prompts)


def authors_pixels(resized: np.ndarray) -> Tensor:
    """8-bit pictures (N, S, S) after the authors' resize, normalised as they do: their own `pixel_values`."""
    return (torch.tensor(resized)[:, None] / 255 - MEAN) / STD


def text_folder(name: str) -> Path:
    """Tokenizer and configuration: three layers, 244 words."""
    told = certificate(name)
    assert told.text is not None
    return told.place(told.text)


def tensors(name: str, layout: str = "layout") -> Tensors:
    """The tensors of a published file by `SECTION.NAME`; those kept under two names are one."""
    return published_tensors(name, layout)


def write(name: str, made: Tensors, path: Path) -> Path:
    """The published file with these tensors, and what the real one holds beside them."""
    if name == "medklip":
        torch.save({"model": made, **OTHER}, path)
        return path
    split = [(key.partition(".")[0], key.partition(".")[2], value) for key, value in made.items()]
    sections = {part: {n: v for p, n, v in split if p == part} for part in ("model", "image_encoder", "text_encoder")}
    torch.save({**sections, **OTHER}, path)
    return path


def text_encoder(name: str, folder: Path) -> Path:
    """The folder of the text encoder, with its own weights where the published one has them."""
    folder.mkdir()
    for file in text_folder(name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if name == "medklip":
        heads = {"cls.predictions.bias": torch.zeros(244), "cls.seq_relationship.bias": torch.zeros(2)}
        torch.save({**tensors("medklip", "text_layout"), **heads}, folder / "pytorch_model.bin")
    return folder


def load(name: str, folder: Path, change: Callable[[Tensors], Tensors] = lambda made: made) -> Adapter:
    """The model behind its card, of the published layout or of a changed one."""
    path = write(name, change(tensors(name)), folder / f"{name}.pt")
    return load_adapter(zoo_card(name), path, text_encoder(name, folder / "text"))


def difference(found: Tensor, wanted: np.ndarray) -> float:
    """Largest relative difference of a row, before and after the mean row is taken off (made rows are alike)."""
    have, want = _compared(found, wanted)
    mean = want.mean(dim=0) if len(want) > 1 else torch.zeros(())
    return max(relative_difference(have, want), relative_difference(have - mean, want - mean))


def score_difference(found: Tensor, wanted: np.ndarray) -> float:
    """The same; with the mean row off, relative to the largest value of all rows.

    Scores differ from image to image by a hundredth of their size, and a row may lie at the mean to a thousandth.
    """
    have, want = _compared(found, wanted)
    apart = want - want.mean(dim=0)
    largest = apart.abs().max() if len(want) > 1 else want.abs().max()
    return max(relative_difference(have, want), float((have - want).abs().max() / largest))


def _compared(found: Tensor, wanted: np.ndarray) -> tuple[Tensor, Tensor]:
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    return found.flatten(1), torch.from_numpy(wanted).flatten(1)

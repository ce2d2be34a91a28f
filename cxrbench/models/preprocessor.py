"""The preprocessing that libraries save beside weights, held against what a card says its authors do."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrbench.errors import CxrBenchWarning, IntegrityError
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.text_loading import json_table, refusing
from cxrbench.specs.card import ModelCard
from cxrbench.specs.recipe import Crop, MinMax, Recipe, Resize, Step, Steps, Stretch
from cxrbench.system.printable import printable

FILE, OF_ALL = "preprocessor_config.json", "processor_config.json"  # the second has the first as `image_processor`
_KNOWN = {
    "CLIPImageProcessor",
    "SiglipImageProcessor",
    "BitImageProcessor",
    "ViTImageProcessor",
    "DeiTImageProcessor",
    "ConvNextImageProcessor",
}
_SAID = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_flip_channel_order"}
_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_SQUASHED_FROM = 384  # ConvNext's processor crops below this side alone
_CLOSE = 1e-6
_NOTHING = "nothing"


class _UncheckedError(Exception):
    """Why a file cannot be held against a recipe."""


@dataclass(frozen=True, slots=True)
class _Saved:
    """What a file says: the steps on 8 bits, the divisor after them, and mean and std of three channels."""

    steps: tuple[Step, ...]
    divisor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def hold_recipe(card: ModelCard, checkpoint: Checkpoint) -> None:
    """Hold the card's recipe `authors` against the preprocessing that was saved beside the weights.

    How a file is opened, and a step from its full depth to 8 bits, are before it and not compared. Of a card without
    that recipe, mean and std of `reality-check` are. Raises IntegrityError that names what differs and the lines to
    write, unless `weights.preprocessor` on the card says why it does; warns (CxrBenchWarning) where a processor is of
    a kind that is not known here, so that nothing was compared, and where `reality-check` differs.
    """
    for path, told in _saved(checkpoint.path):
        try:
            saved = _read(path, told)
        except _UncheckedError as why:
            _warn(f"{card.name}: the preprocessing in {path} was held against nothing: {why}")
            continue
        _compare(card, path, saved)


def _saved(weights: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    found = [(path, json_table(path)) for path in map(weights.with_name, (FILE, OF_ALL)) if path.is_file()]
    own = [(path, told if path.name == FILE else told.get("image_processor")) for path, told in found]
    return [(path, told) for path, told in own if isinstance(told, Mapping)]


def _warn(text: str) -> None:
    warnings.warn(text, CxrBenchWarning, stacklevel=2)


def _read(path: Path, told: Mapping[str, Any]) -> _Saved:
    """The file by the library's own class, which knows what an entry that is missing means."""
    import transformers

    kind = str(told.get("image_processor_type") or told.get("feature_extractor_type"))
    plain = kind.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if plain not in _KNOWN:
        raise _UncheckedError(f"{printable(kind)[:80]} is not known here; known are {', '.join(sorted(_KNOWN))}")
    if strange := sorted(key for key, does in told.items() if key.startswith("do_") and does and key not in _SAID):
        raise _UncheckedError(f"what {printable(strange[0])[:80]} does is not known here")
    settings = {key: value for key, value in told.items() if not key.endswith(("_type", "processor_class"))}
    with refusing(path, "image processor"):
        processor = getattr(transformers, plain)(**settings)
        found = _of(processor)
    if isinstance(found, _UncheckedError):
        raise found
    return found


def _of(processor: Any) -> "_Saved | _UncheckedError":
    try:
        return _facts(processor)
    except _UncheckedError as why:
        return why


def _facts(processor: Any) -> _Saved:
    if getattr(processor, "do_flip_channel_order", False):
        raise _UncheckedError("it swaps red and blue")
    divisor = 1 / processor.rescale_factor if processor.do_rescale else 1.0
    mean = tuple(processor.image_mean) if processor.do_normalize else (0.0,) * 3
    std = tuple(processor.image_std) if processor.do_normalize else (1.0,) * 3
    return _Saved((*_resized(processor), *_cropped(processor)), divisor, mean, std)


def _resized(processor: Any) -> list[Step]:
    if not processor.do_resize:
        return []
    how = _FILTERS.get(int(processor.resample))
    if how is None:
        raise _UncheckedError(f"the filter {int(processor.resample)} of its resize is none that a recipe has")
    size = processor.size
    shorter, height, width = (size.get(key) for key in ("shortest_edge", "height", "width"))
    if shorter and getattr(processor, "crop_pct", None) is not None:
        return _convnext(shorter, processor.crop_pct, how)
    if shorter and not size.get("longest_edge"):
        return [_resize("shorter", shorter, how)]
    if height and height == width:
        return [_resize("exact", height, how)]
    raise _UncheckedError(f"its size {_sides(size)} is none that a recipe has")


def _convnext(side: int, share: float, how: str) -> list[Step]:
    if side >= _SQUASHED_FROM:
        return [_resize("exact", side, how)]
    return [_resize("shorter", int(side / share), how), Crop(op="crop", size=side, rest="down")]


def _resize(to: str, size: int, how: str) -> Step:
    return Resize.model_validate({"op": "resize", "to": to, "size": size, "filter": how})


def _sides(size: Any) -> str:
    keys = ("shortest_edge", "longest_edge", "height", "width")
    return _table({key: size.get(key) for key in keys if size.get(key) is not None})


def _cropped(processor: Any) -> list[Step]:
    if not getattr(processor, "do_center_crop", False):
        return []
    height, width = (processor.crop_size.get(key) for key in ("height", "width"))
    if height is None or height != width:
        raise _UncheckedError(f"its crop {_sides(processor.crop_size)} is no square")
    return [Crop(op="crop", size=height, rest="down")]


def _compare(card: ModelCard, path: Path, saved: _Saved) -> None:
    recipe = card.recipes.get("authors")
    if recipe is not None and card.weights.preprocessor is None:
        if found := _differences(recipe, saved, whole=True):
            raise IntegrityError(
                f"{path}: the card of {card.name} says otherwise. {_told(found)} under [recipes.authors] of the card; "
                "or, if its authors do not use this file, say why in weights.preprocessor."
            )
    elif recipe is None and (found := _differences(card.recipe("reality-check"), saved, whole=False)):
        _warn(f"{path}: the recipe `reality-check` of {card.name} says otherwise. {_told(found)} under it.")


def _told(found: Mapping[str, tuple[str, str]]) -> str:
    said = "; ".join(f"{key}: the file says {want}, the card {have}" for key, (want, have) in found.items())
    lines = [f"`{key} = {want}`" if want != _NOTHING else f"no `{key}`" for key, (want, _) in found.items()]
    return f"{said}. Write {' and '.join(lines)}"


def _differences(recipe: Recipe, saved: _Saved, *, whole: bool) -> dict[str, tuple[str, str]]:
    """What differs by its key in a recipe: what the file says and what the recipe does, as lines of a card."""
    found: dict[str, tuple[str, str]] = {}
    for key, want in (("mean", saved.mean), ("std", saved.std)):
        have: Sequence[float] = getattr(recipe, key)
        if not _close(_three(have), _three(want)):
            found[key] = (json.dumps(list(want)), json.dumps(list(have)))
    if not whole:
        return found
    if not isinstance(recipe, Steps):
        return {"kind": ('"steps"', f'"{recipe.kind}"'), "steps": (_line(saved.steps), _NOTHING), **found}
    own = tuple(step for step in recipe.steps if not isinstance(step, MinMax | Stretch))
    if own != saved.steps:
        found["steps"] = (_line(saved.steps), _line(own))
    if recipe.divisor == "own-range" or not _close([recipe.divisor], [saved.divisor]):
        found["divisor"] = (f"{saved.divisor:g}", json.dumps(recipe.divisor))
    if recipe.resample is not None:
        found["resample"] = (_NOTHING, _table(recipe.resample.model_dump()))
    return found


def _three(values: Sequence[float]) -> Sequence[float]:
    return list(values) * 3 if len(values) == 1 else values


def _close(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    if len(ours) != len(theirs):
        return False
    return all(math.isclose(a, b, rel_tol=_CLOSE, abs_tol=_CLOSE) for a, b in zip(ours, theirs, strict=True))


def _line(steps: Sequence[Step]) -> str:
    return f"[{', '.join(_table(step.model_dump()) for step in steps)}]"


def _table(fields: Mapping[str, Any]) -> str:
    return f"{{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in fields.items())} }}"

"""What a recipe does to a picture, one step after another, in words that a reader can follow."""

from collections.abc import Iterator

from cxrbench.specs.recipe import (
    Canvas,
    Crop,
    CropSquare,
    Given,
    MinMax,
    Opening,
    Pad,
    PadSquare,
    Recipe,
    Resample,
    Resize,
    Step,
    Steps,
    Stretch,
)

_READERS = {
    "official": "read the grey values as they are stored",
    "radiograph": "read the grey values as the file's header says: rescale, VOI window, photometric interpretation",
}
_POLARITY = {
    "stored": "",
    "negated": "turn black and white round",
    "header": "turn black and white round where the header says so",
}
_OPENING: dict[Opening, str] = {
    "first": "take the first channel of a colour picture",
    "luma": "make a colour picture grey as Pillow does",
    "colour": "keep three channels",
    "opencv": "open it in grey as OpenCV does, the upper byte of 16 bits",
    "opencv-luma": "open it in colour as OpenCV does, then make it grey as Pillow does",
}
_TO = {
    "exact": "both sides to {size}, aspect not kept",
    "shorter": "the shorter side to {size}",
    "longer": "the longer side to {size}",
    "longer-cut": "the longer side to {size}, both rounded down",
}
_STRETCHED = {
    "min-max": "stretch the least value to 0 and the greatest to 255, cut to 8 bits",
    "stretch": "of what is no DICOM: stretch the least value to 0 and the greatest to 255, rounded",
}
_RESAMPLED = {
    "bicubic": "bicubically as torch does, without antialiasing",
    "smoothed-linear": "as scikit-image does: smoothed where it shrinks, then linear",
}


def recipe_steps(recipe: Recipe) -> tuple[str, ...]:
    """The steps from the bytes of a file to the array that a network sees, in order."""
    if isinstance(recipe, Given):
        return ("none: the vectors come from a file that was computed elsewhere",)
    told = _canvas(recipe) if isinstance(recipe, Canvas) else _steps(recipe)
    return tuple(one for one in (*_opened(recipe), *told) if one)


def _opened(recipe: Canvas | Steps) -> Iterator[str]:
    yield _READERS[recipe.decode]
    if isinstance(recipe, Steps) and recipe.decode == "official":
        yield _OPENING[recipe.files]
        if recipe.dicom == "over-maximum":
            yield "of DICOM: multiply by 255 / the greatest value, round to 8 bits"
    if recipe.decode == "official":
        yield _POLARITY[recipe.polarity]


def _canvas(recipe: Canvas) -> Iterator[str]:
    smooth = "with" if recipe.antialias else "without"
    yield f"resize the longer side to {recipe.size}, bilinear in floating point, {smooth} antialiasing"
    yield f"add zeros on the right and below to {recipe.size} x {recipe.size}"
    yield f"three equal channels on the scale 0..1; {_normalised(recipe)}"


def _steps(recipe: Steps) -> Iterator[str]:
    yield from map(_step, recipe.steps)
    scale = (
        "each channel from its own range to 0..1" if recipe.divisor == "own-range" else f"divide by {recipe.divisor}"
    )
    yield f"{scale}; {_normalised(recipe)}"
    if recipe.resample is not None:
        yield _resampled(recipe.resample)


def _resampled(last: Resample) -> str:
    return f"resize to {last.size} x {last.size}, {_RESAMPLED[last.filter]}"


def _step(step: Step) -> str:
    match step:
        case MinMax() | Stretch():
            return _STRETCHED[step.op]
        case Resize():
            whose = "OpenCV's area filter" if step.filter == "area" else f"Pillow's {step.filter} filter"
            return f"resize {_TO[step.to].format(size=step.size)}, {whose}"
        case PadSquare():
            least = f", of at least {step.least}" if step.least > 1 else ""
            return f"pad with black to a square{least}, the picture in the middle"
        case Pad():
            return f"pad with black to {step.size} x {step.size}, the picture in the middle"
        case Crop() | CropSquare():
            return f"cut out the middle {f'{step.size} x {step.size}' if isinstance(step, Crop) else 'square'}"


def _normalised(recipe: Canvas | Steps) -> str:
    if set(recipe.mean) == {0.0} and set(recipe.std) == {1.0}:
        return "no mean is subtracted"
    return f"subtract {_values(recipe.mean)}, divide by {_values(recipe.std)}"


def _values(values: tuple[float, ...]) -> str:
    shown = [f"{value:.4g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else f"({', '.join(shown)})"

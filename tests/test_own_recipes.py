"""What users write of their own model's mean and std: on which scale, and in which form."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

import cxrbench
from cxrbench.errors import SpecError
from cxrbench.specs.recipe import Recipe

RECIPE: TypeAdapter[Any] = TypeAdapter(Recipe)
SIZED = {"op": "resize", "to": "exact", "size": 8, "filter": "bilinear"}
KINDS: dict[str, dict[str, Any]] = {
    "canvas": {"size": 8},
    "255": {"kind": "steps", "steps": [SIZED]},
    "own-range": {"kind": "steps", "steps": [SIZED], "divisor": "own-range"},
    "1": {"kind": "steps", "steps": [SIZED], "divisor": 1},
}


def recipe(kind: str, mean: object, std: object) -> Any:
    return RECIPE.validate_python({**KINDS[kind], "mean": mean, "std": std})


@pytest.mark.parametrize("kind", ["canvas", "255", "own-range"])
@pytest.mark.parametrize(
    ("mean", "std", "told"),
    [
        ([127], [128], "divide 127 and 128 by 255"),
        ([0], [128], "divide 0 and 128 by 255"),
        ([0.5], [58.4], "divide 0.5 and 58.4 by 255"),
        ([123.675, 116.28, 103.53], [1, 1, 1], "divide 123.675, 116.28, 103.53 and 1, 1, 1 by 255"),
        ([-0.2], [0.5], "mean -0.2"),
    ],
)
def test_another_scale_than_0_to_1_is_refused(kind: str, mean: list[float], std: list[float], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)) as refusal:
        recipe(kind, mean, std)
    assert "on the scale 0..1" in str(refusal.value)


def test_models_in_memory_are_held_to_it_too() -> None:
    with pytest.raises(SpecError, match=r"in_memory\('mine'\).*0\.\.1: divide 127 and 128 by 255"):
        cxrbench.in_memory("mine", abs, width=4, size=8, mean=127, std=128)


def test_values_that_stay_at_0_to_255_have_a_mean_and_std_of_that_scale() -> None:
    assert recipe("1", [127], [128]).mean == (127,)
    assert recipe("1", 127.5, 255 / 2048).std == (255 / 2048,)  # to -1024..1024
    assert recipe("1", 0, 1).std == (1,)
    with pytest.raises(ValidationError, match=r"0\.\.255: multiply mean and std by 255"):
        recipe("1", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_alone_is_a_list_of_one(kind: str) -> None:
    scale = 255 if kind == "1" else 1
    alone, listed = recipe(kind, 0.5 * scale, 0.25 * scale), recipe(kind, [0.5 * scale], [0.25 * scale])
    assert alone == listed and alone.digest == listed.digest
    with pytest.raises(ValidationError, match="tuple"):
        recipe(kind, True, [0.25])

"""What is said of a checkpoint whose tensors are not quite the model's: the true reason, and the way out."""

from pathlib import Path

import pytest
import torch
from made_weights import make_checkpoint, small_card, small_layout

from cxrbench.errors import IntegrityError
from cxrbench.models.base import load_adapter

CARD = small_card("unimodal_cm")
TENSORS = make_checkpoint(small_layout("unimodal"))
Tensors = dict[str, torch.Tensor]


def load(folder: Path, tensors: Tensors) -> object:
    path = folder / CARD.weights.files[0]
    torch.save(tensors, path)
    return load_adapter(CARD, path)


@pytest.mark.parametrize("prefix", ["model.", "module._orig_mod."])
def test_a_prefix_common_to_all_names_is_told_with_the_way_out(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError) as refusal:
        load(tmp_path, {prefix + name: tensor for name, tensor in TENSORS.items()})
    said = str(refusal.value)
    assert f"all {len(TENSORS)} tensors are named with the prefix {prefix!r}" in said
    assert "exactly this model's" in said and said.endswith(f'rename = {{ "{prefix}" = "" }}')


def test_a_prefix_is_not_blamed_where_more_is_wrong(tmp_path: Path) -> None:
    fewer = dict(list(TENSORS.items())[1:])
    with pytest.raises(IntegrityError) as refusal:
        load(tmp_path, {f"module.{name}": tensor for name, tensor in fewer.items()})
    assert "exactly this model's" not in str(refusal.value)


def test_left_over_names_come_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"1 left over: a\.position_ids\. .*weights\.ignored") as refusal:
        load(tmp_path, {**TENSORS, "a.position_ids": torch.arange(4)})
    assert "older versions of transformers" in str(refusal.value)
    with pytest.raises(IntegrityError, match=r"1 left over: more\.weight\. If the model does not need them, name"):
        load(tmp_path, {**TENSORS, "more.weight": torch.zeros(2)})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(number: float, tmp_path: Path) -> None:
    name = next(name for name, tensor in TENSORS.items() if tensor.ndim > 1)
    broken = TENSORS[name].clone()
    broken.view(-1)[-1] = number
    with pytest.raises(IntegrityError, match=f"{name} hold numbers that are not finite"):
        load(tmp_path, {**TENSORS, name: broken})


def test_half_precision_is_read_exactly(tmp_path: Path) -> None:
    half = {n: t.half() if t.is_floating_point() else t for n, t in TENSORS.items()}
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = load(tmp_path, half).encode_image(pixels)  # type: ignore[attr-defined]
    same = {n: t.float() if t.dtype == torch.float16 else t for n, t in half.items()}
    wanted = load(tmp_path, same).encode_image(pixels)  # type: ignore[attr-defined]
    assert torch.equal(found.pooled, wanted.pooled)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (1, 1, 1), (7, 7)])
def test_tensors_of_any_other_shape_are_refused_and_raise_nothing_else(shape: tuple[int, ...], tmp_path: Path) -> None:
    for name in list(TENSORS)[:: max(1, len(TENSORS) // 8)]:
        if TENSORS[name].shape != shape:
            with pytest.raises(IntegrityError, match=r"shape|cannot be built|blocks|no matrix"):
                load(tmp_path, {**TENSORS, name: torch.zeros(shape)})

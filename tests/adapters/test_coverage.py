from pathlib import Path

import pytest
import torch

from cxrbench.errors import IntegrityError
from cxrbench.models.coverage import coverage, require_complete

WANTED = {"a": torch.empty(2, 3, device="meta"), "b": torch.empty(4, device="meta")}
WHOLE = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}


def test_the_same_names_shapes_and_dtypes_are_complete() -> None:
    found = coverage(WHOLE, WANTED, {"position_ids": "computed"})
    assert found.complete
    assert found.used == ("a", "b")
    assert found.ignored == {}
    require_complete(found, Path("x.pth"), "x")


def test_what_the_card_ignores_is_listed_with_its_reason() -> None:
    found = coverage({**WHOLE, "position_ids": torch.arange(4)}, WANTED, {"position_ids": "computed"})
    assert found.complete
    assert found.ignored == {"position_ids": "computed"}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"a": WHOLE["a"]}, "1 missing: b"),
        ({**WHOLE, "c": torch.zeros(1)}, "1 left over: c"),
        ({"a": WHOLE["a"], "B": WHOLE["b"]}, "1 missing: b; 1 left over: B"),
        ({"a": torch.zeros(3, 2), "b": WHOLE["b"]}, r"of another shape: a \(3, 2\) instead of \(2, 3\)"),
        ({"a": WHOLE["a"].half(), "b": WHOLE["b"]}, "of another dtype: a torch.float16 instead of torch.float32"),
        ({f"c{i}": torch.zeros(1) for i in range(9)}, "9 left over: c0, c1, c2, c3, and 5 more"),
    ],
)
def test_every_fault_is_listed(tensors: dict[str, torch.Tensor], says: str) -> None:
    with pytest.raises(IntegrityError, match=says):
        require_complete(coverage(tensors, WANTED, {}), Path("x.pth"), "x")


def test_the_layout_that_the_file_does_have_is_named() -> None:
    with pytest.raises(IntegrityError, match=r"x\.pth: .*layout of clip_cm / unicl_cm"):
        require_complete(coverage({}, WANTED, {}), Path("x.pth"), "x", ["clip_cm", "unicl_cm"])


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("_fc.", r"weights\.ignored: '_fc\.' is the name of no tensor; give whole names, or '_fc\.\*'\.$"),
        ("fc", r"weights\.ignored: 'fc' is the name of no tensor; give whole names; \* stands for any letters\.$"),
    ],
)
def test_an_ignored_name_that_no_tensor_has_is_told(pattern: str, says: str) -> None:
    made = {**WHOLE, "_fc.weight": torch.zeros(1)}
    with pytest.raises(IntegrityError, match=says):
        require_complete(coverage(made, WANTED, {pattern: "a classifier"}), Path("x.pth"), "x")
    found = coverage(made, WANTED, {"_fc.*": "a classifier", "optional": "of older files"})
    assert found.complete and found.ignored == {"_fc.weight": "a classifier"}
    require_complete(found, Path("x.pth"), "x")

"""The plot of growth: what is kept is not measured again, and the powers are those of the points."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT))
    found = importlib.import_module("benchmarks.growth")
    asked = list[int]()

    def measure(size: int) -> float:
        asked.append(size)
        return 2e-6 * size**1.5

    monkeypatch.setattr(found, "costs", lambda: {"a cost": found.Cost(measure, (100, 1000, 10_000), "#000000", "o")})
    monkeypatch.setattr(found, "asked", asked, raising=False)
    yield found


def test_points_are_measured_once_and_drawn_with_their_power(
    growth: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    kept, target = tmp_path / "points.json", tmp_path / "new" / "growth.svg"
    kept.write_text(json.dumps({"a cost": {"10": 0.5}}))
    growth.plot(target, kept, 10)
    assert growth.asked == [100, 1000], "a tenth of each size, and the kept one not again"
    assert json.loads(kept.read_text())["a cost"].keys() == {"10", "100", "1000"}
    assert capsys.readouterr().out == "a cost: power 1.50\n"
    drawn = target.read_text(encoding="utf-8")
    assert "a cost: power 1.50" in drawn and "CPU seconds" in drawn
    growth.plot(target, kept, 10)
    assert growth.asked == [100, 1000] and target.read_text(encoding="utf-8") == drawn


def test_a_tiny_data_set_goes_through_data_status_and_prepare(
    growth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its own layout: every picture another, none missing, none unreadable."""
    from cxrbench.data.sources.base import load_partition
    from cxrbench.images.radiograph import read_radiograph
    from cxrbench.specs import catalog

    prepare = importlib.import_module("benchmarks.prepare")
    monkeypatch.setattr(prepare, "_A_FOLDER", 400)
    prepare.write(tmp_path, 1000)
    found = load_partition(tmp_path, catalog.load_task("nih_lt"), "dlilp", survey=True)
    assert len(found.paths) == 1000 and not found.findings.missing and not found.findings.extra
    assert len({path.read_bytes() for path in found.paths.values()}) == 1000
    assert read_radiograph(prepare.png(7), "7.png").values.shape == (8, 8)

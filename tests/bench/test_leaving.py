"""Networks that leave their device when their part is over; a stand-in on the processor counts as a CUDA device."""

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab, by_id

from cxrbench.models.base import load_adapter
from cxrbench.runner import model as models
from cxrbench.runner.model import BenchModel, bench_model
from cxrbench.runner.request import Engine, Places
from cxrbench.specs import catalog


class Loads:
    """Every network that was loaded, without holding it."""

    def __init__(self) -> None:
        self.found = list[tuple[str, Any]]()

    def __call__(self, card: Any, *about: Any, **more: Any) -> Any:
        adapter = load_adapter(card, *about, **more)
        self.found.append((card.name, weakref.ref(object.__getattribute__(adapter, "_adapter"))))
        return adapter

    @property
    def there(self) -> list[str]:
        return [name for name, network in self.found if network() is not None]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    found = Loads()
    monkeypatch.setattr(models, "load_adapter", found)
    return found


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The processor counts as a device of CUDA's for who asks whether a network should leave."""
    monkeypatch.setattr(models, "on_cuda", lambda device: True)
    return


def made(lab: Lab, name: str = "small_unimodal") -> BenchModel:
    return bench_model(catalog.load_card(lab.model(name)), Places(), Engine("cpu"), "cpu", alone=True)


def test_a_network_that_left_is_freed_and_loaded_again_when_it_is_asked_for(
    lab: Lab, loads: Loads, standing_in: None
) -> None:
    model = made(lab)
    encoder = model.encoder(model.card.recipe("reality-check"))
    encoder.leave()
    assert loads.found == []
    encoder.forward()
    told = encoder.engine()
    assert loads.there == ["small_unimodal"]
    encoder.leave()
    assert loads.there == []
    assert encoder.engine() == told and len(loads.found) == 1, "what ran is known without the network"
    encoder.forward()
    assert loads.there == ["small_unimodal"] and len(loads.found) == 2


def test_on_the_processor_a_network_stays(lab: Lab, loads: Loads) -> None:
    model = made(lab)
    first = model.adapter
    model.leave()
    assert model.adapter is first and len(loads.found) == 1


def test_a_run_whose_networks_leave_comes_to_the_same_and_holds_none_beside_the_one_it_measures(
    lab: Lab, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, tasks = ["small_unimodal", "small_clip"], ["covid", "vindr"]
    expected = by_id(lab.run(tmp_path / "plain", names, tasks))
    loads, after = Loads(), list[tuple[str, list[str]]]()
    monkeypatch.setattr(models, "load_adapter", loads)
    monkeypatch.setattr(models, "on_cuda", lambda device: True)
    leave = BenchModel.leave

    def watched(model: BenchModel) -> None:
        leave(model)
        after.append((model.card.name, loads.there))

    monkeypatch.setattr(BenchModel, "leave", watched)
    assert by_id(lab.run(tmp_path / "leaving", names, tasks)) == expected
    assert [name for name, _ in after] == names
    assert all(name not in there for name, there in after) and after[-1][1] == []

"""Files as training frameworks leave them: tensors among objects of classes that are not there when they are read."""

import argparse
import collections
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def foreign_classes() -> Iterator[types.SimpleNamespace]:
    """Classes of packages that are importable within, and gone after."""

    class DictConfig:
        def __setstate__(self, state: object) -> None:
            raise AssertionError("a foreign class was given its state")

        def __getstate__(self) -> dict[str, object]:
            return {"_content": {"lr": 0.1, "parent": self}, "_flags": {"type": typing.Any}}

    class ListConfig(list[int]):
        pass

    class ModelCheckpoint:
        pass

    class Keyed(dict[str, int]):
        pass

    kinds: dict[str, list[type]] = {"omegaconf": [], "pytorch_lightning": [], "pytorch_lightning.callbacks": []}
    kinds |= {"omegaconf.dictconfig": [DictConfig], "omegaconf.listconfig": [ListConfig]}
    kinds["pytorch_lightning.callbacks.model_checkpoint"] = [ModelCheckpoint, Keyed]
    before = {name: sys.modules.get(name) for name in kinds}
    for name, classes in kinds.items():
        module = sys.modules[name] = types.ModuleType(name)
        for kind in classes:
            kind.__module__, kind.__qualname__ = name, kind.__name__
            setattr(module, kind.__name__, kind)
    yield types.SimpleNamespace(dict=DictConfig, list=ListConfig, callback=ModelCheckpoint, keyed=Keyed)
    for name, earlier in before.items():
        sys.modules.pop(name)
        if earlier is not None:
            sys.modules[name] = earlier


def lightning(foreign: types.SimpleNamespace, tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """What a training framework saves: `state_dict` among its own classes."""
    states = collections.OrderedDict(tensors)
    states._metadata = collections.OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return {
        "epoch": 3,
        "callbacks": {foreign.callback: {"best": torch.tensor(0.5), "monitor": "val"}},
        "optimizer_states": [{"state": {0: {"step": 5, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]}],
        "hyper_parameters": foreign.dict(),
        "hparams_type": foreign.dict,
        "list": foreign.list([1, 2, 3]),
        "keyed": foreign.keyed(a=1),
        "args": argparse.Namespace(lr=1, other=foreign.callback()),
        "score": np.float64(0.25),
        "array": np.arange(4),
        "sets": [{1, 2}, frozenset({3}), {(1, (2, 3)): 4}],
        "counts": collections.defaultdict(list, a=[1]),
        "any": typing.Any,
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "state_dict": states,
    }


def save_lightning(path: Path, tensors: Mapping[str, Tensor], **how: Any) -> set[str]:
    """Write such a file with these tensors under `state_dict`; returns its keys."""
    with foreign_classes() as foreign:
        content = lightning(foreign, tensors)
        torch.save(content, path, **how)
    return set(content)

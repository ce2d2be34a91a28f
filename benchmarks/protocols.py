"""CPU time of each few-shot protocol over the linear probe's: `python -m benchmarks.protocols [--quick] [--json FILE]`.

Synthetic unit features with the shapes of the paper's seven tasks, five folds, K of 1, 2, 4, 8 and 16, two widths. An
arm is what the folds of a cell cost from vectors to scores (`score_folds`), the second fit with rows in another order
included. Each round is a process of its own on one thread, with other features; in it all protocols take turns on the
same folds, each round another one first. A ratio is taken in each round, over all tasks and numbers of shots together.
The linear probe is the converged solver.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rounds import Row, Target, child, cpu_seconds, ratios

CLASSES = (5, 5, 2, 2, 19, 5, 4)
TESTED = (200, 200, 3600, 1500, 8000, 1400, 9000)
TASKS = ("chexpert5x200", "mimic5x200", "rsna", "siim", "nih_lt", "vindr", "covid")
SHOTS = (1, 2, 4, 8, 16)
WIDTHS = (768, 2048)
FOLDS, ROUNDS, TARGET, SCALE = 5, 3, 1.2, 14.3
PROBE = "linear-probe"


def one_round(width: int, number: int) -> dict[str, Any]:
    """CPU seconds of every protocol on each task, all numbers of shots together."""
    from cxrbench.runner.few_shot import FewShot
    from cxrbench.runner.protocol import load_protocol
    from cxrbench.specs import catalog

    settings = catalog.load_variant("cxrbench-v1").settings
    known = [load_protocol(name) for name in catalog.protocol_points() if name != "zero-shot"]
    fitted = [protocol for protocol in known if isinstance(protocol, FewShot)]
    turned = fitted[number % len(fitted) :] + fitted[: number % len(fitted)]
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for protocol in turned:  # imports and the first call of a library
        protocol.score_fold(made_fold(64, 0, 2, 1, 40), settings)
    for task, classes, tested in zip(TASKS, CLASSES, TESTED, strict=True):
        for shots in SHOTS:
            folds = [made_fold(width, FOLDS * number + fold, classes, shots, tested) for fold in range(FOLDS)]
            for protocol in turned:
                seconds, _ = cpu_seconds(partial(scored, protocol, folds, settings))
                spent[protocol.name][task] += seconds
    return {name: dict(tasks) for name, tasks in spent.items()}


def scored(protocol: Any, folds: Sequence[Any], settings: Any) -> None:
    """All folds of a cell by a protocol, whose scores must be finite."""
    for found in protocol.score_folds(folds, lambda place: folds[place].test, settings):
        assert np.isfinite(found.scores).all()


def made_fold(width: int, fold: int, classes: int, shots: int, tested: int) -> Any:
    """Unit features around class directions, and class vectors near these."""
    from cxrbench.runner.few_shot import ClassTexts, FewShotFold

    draw = np.random.default_rng([fold, classes, shots, tested])
    means = draw.standard_normal((classes, width)) / np.sqrt(width)
    shared = draw.standard_normal(width) / np.sqrt(width)

    def around(labels: Any, spread: float) -> Any:
        found = shared + 0.4 * means[labels] + spread * draw.standard_normal((len(labels), width)) / np.sqrt(width)
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    labels = np.repeat(np.arange(classes), shots)
    texts = ClassTexts(0.9 * around(np.arange(classes), 0.3), SCALE)
    images = around(draw.integers(classes, size=tested), 0.8)
    return FewShotFold(around(labels, 0.8), labels, images, tuple(map(str, range(classes))), texts, fold)


def rows(rounds: int) -> list[Row]:
    """A row for each width and protocol: its ratio in each round, with the highest of a task in the note."""
    found = []
    for width in WIDTHS:
        runs = [child("protocols:one_round", width=width, number=number) for number in range(rounds)]
        for name in (name for name in runs[0] if name not in (PROBE, "whole")):
            own, probe = ([sum(run[one].values()) for run in runs] for one in (name, PROBE))
            tasks = {task: float(np.median([run[name][task] / run[PROBE][task] for run in runs])) for task in TASKS}
            worst = max(tasks, key=lambda task: tasks[task])
            note = f"{np.median(own):.2f} against {np.median(probe):.2f} s; most on {worst}, {tasks[worst]:.2f}"
            found.append(Row(f"{name}, d = {width}", ratios(own, probe), Target(TARGET, at_most=True), None, note))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a protocol missed the target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.protocols", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    parser.add_argument("--json", type=Path, help="where the figures go")
    asked = parser.parse_args(argv)
    found = rows(1 if asked.quick else ROUNDS)
    for row in found:
        print(f"{row.metric:34} <= {TARGET:g} {row.median:7.3f} {row.iqr:6.3f}  {row.verdict:28} {row.note}")
    if asked.json is not None:
        asked.json.write_text(json.dumps([row.facts() for row in found], indent=1) + "\n", encoding="utf-8")
    return int(any(row.verdict == "missed" for row in found))


if __name__ == "__main__":
    sys.exit(main())

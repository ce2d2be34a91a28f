"""CPU time of five folds x five shot counts over that of one fold x one shot count, encoding the same images.

Both arms are a whole run on a cold store (plan, label tables, sweep, probes, records) of one ResNet-50 on the COVID
phantom; models are loaded and libraries imported before the clock starts. The second arm's plan has one fold and
K = 16 alone, but wants all images of the first.
"""

from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.material import Material
from benchmarks.rounds import Row, Target, alternated, child, cpu_seconds, ratios

TASK = "covid"
SHOTS = (1, 2, 4, 8, 16)


def rows(material: Material, rounds: int) -> list[Row]:
    """One row."""
    where: dict[str, object] = {"data": str(material.data), "card": str(material.cards[0])}
    arms = {name: partial(child, f"folds:{name}", **where) for name in ("all_of_them", "one_of_them")}
    found = alternated(arms, rounds)
    many, one = found["all_of_them"], found["one_of_them"]
    assert {run["images"] for run in many} == {run["images"] for run in one}
    note = f"{one[0]['images']} images; {min(r['cpu'] for r in many):.2f} s against {min(r['cpu'] for r in one):.2f} s"
    measured = ratios([run["cpu"] for run in many], [run["cpu"] for run in one])
    return [Row("folds_and_shots", measured, Target(1.05, at_most=True), note=note)]


def all_of_them(data: str, card: str) -> dict[str, Any]:
    """Arm: five folds, five shot counts."""
    return _run(data, card, everything=True)


def one_of_them(data: str, card: str) -> dict[str, Any]:
    """Arm: the first fold at K = 16, with the images of all."""
    return _run(data, card, everything=False)


def _run(data: str, card: str, *, everything: bool) -> dict[str, Any]:
    from cxrbench.system import cpu

    cpu.prepare()
    from benchmarks.runs import SomeFolds, checked, places, probes, run_planned, warm
    from cxrbench.runner.lay_out import lay_out
    from cxrbench.runner.request import Engine
    from cxrbench.runner.run import RunResult, run

    with TemporaryDirectory() as folder, warm([card], Engine().batch_size):
        at = places(data, [card], folder)
        every = probes({"models": (card,), "tasks": (TASK,), "shots": SHOTS}, at)
        single = probes({"models": (card,), "tasks": (TASK,), "shots": (16,)}, at)

        def part() -> RunResult:
            whole, made = lay_out(every), lay_out(single)
            return run_planned(SomeFolds(single, made.variant, made.cells, n_folds=1, whole=whole))

        spent, report = cpu_seconds((lambda: checked(run(every))) if everything else part)
    assert [len(record.folds) for record in report.records] == ([5] * 5 if everything else [1])
    return {"cpu": spent, "images": report.encoded}

"""`make check-phantom`: a small run on synthetic radiographs with synthetic weights, held against committed numbers.

The numbers say nothing about any model. They hold the whole path still, from drawing and decoding to the metrics: a
change that moves one of them has to say so, by `make check-phantom CHECK=--update` and the baseline's difference.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / place) for place in (".", "bench")]

from lab import add_findings, build, write_card  # noqa: E402 - found on the path just set
from made_weights import make_checkpoint, small_card, small_layout  # noqa: E402

from cxrbench.cli.main import main as program  # noqa: E402

BASELINE = Path(__file__).resolve().parents[1] / "fixtures" / "phantom_baseline.toml"
STRATEGIES = ("clip", "dlilp")
TASKS = ("covid", "vindr", "chexpert5x200")

# Of the largest score. Without the vector instructions of NumPy, PyTorch, MKL and oneDNN, and with two threads, scores
# moved by 2e-6 at most and no image by a byte. The rest is for other image libraries, which may draw a grey level off.
CLOSENESS = 1e-3


def measured(place: Path) -> Path:
    """The results folder of the run below `place`, made anew."""
    from safetensors.torch import save_file

    shutil.rmtree(place, ignore_errors=True)
    lab = build(place, strategies=())
    for strategy in STRATEGIES:
        lab.models.mkdir(parents=True, exist_ok=True)
        # safetensors: its bytes, and so the weights' digest, follow from the tensors, whatever torch wrote them
        save_file(make_checkpoint(small_layout(strategy)), lab.models / f"{strategy}.safetensors")
        told = small_card(f"{strategy}_cm").weights.model_copy(update={"files": (f"{strategy}.safetensors",)})
        write_card(lab.models, f"small_{strategy}", strategy, weights=told)
    report = lab.run(place, [f"small_{strategy}" for strategy in STRATEGIES], (*TASKS, add_findings(lab)))
    if report.problems:
        raise report.problems[0]
    return place / "results"


def main() -> None:
    """Run, then `cxrbench check` with the words that follow the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path, help="folder for what is drawn and measured; emptied first")
    known, words = parser.parse_known_args()
    results = measured(known.place)
    if "--update" in words:
        words += ["--closeness", str(CLOSENESS)]
    else:
        words += ["--against", "baseline"]
    sys.argv = ["cxrbench", "check", "--out", str(results), "--baseline", str(BASELINE), *words]
    program()


if __name__ == "__main__":
    main()

"""Two processes with half the batch each take the step of one with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_lessons import made_text_encoder

from cxrbench.pretrain.batches import reading
from cxrbench.pretrain.gather import gathered

TESTS = Path(__file__).parents[1]
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def steps(out: Path, text: Path, batch: int, *launcher: str) -> dict[str, dict[str, torch.Tensor]]:
    program = [sys.executable, *launcher, "made_ranks.py", str(out), str(text), str(batch)]
    told = subprocess.run(
        program, cwd=TESTS, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stderr[-2000:]
    found: dict[str, dict[str, torch.Tensor]] = torch.load(out, weights_only=True)
    return found


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    text = made_text_encoder(tmp_path / "text", dropout=0.0)  # dropout draws differ between processes, as they should
    one = steps(tmp_path / "one.pt", text, 16)
    two = steps(tmp_path / "two.pt", text, 8, *TWO)
    assert one.keys() == two.keys()
    for case, wanted in one.items():
        assert two[case].keys() == wanted.keys(), case
        assert abs(two[case]["loss"] - wanted["loss"]) < 1e-10 * abs(wanted["loss"]), case
        largest = max(float(tensor.abs().max()) for name, tensor in wanted.items() if name != "loss")
        for name, tensor in wanted.items():
            torch.testing.assert_close(two[case][name], tensor, rtol=1e-8, atol=1e-10 * largest, msg=f"{case} {name}")


def test_one_process_gathers_nothing() -> None:
    vectors = torch.rand(3, 2)
    assert gathered(vectors, (3,), 0) is vectors


def test_every_process_reads_a_text_where_any_does() -> None:
    found = reading("dlilp", [True, False, True, False, False], (3, 2))
    assert found.of == ((0, 2), (3,))
    assert (found.texts, found.pairs) == ((0, 1), (0, 2))
    one = reading("dlilp", [True, False, False], (3,))
    assert (one.of, one.texts) == (((),), ())  # one report sentence: no contrastive term, so nothing is read
    assert reading("unimodal", [True, True], (2,)).of == ((),)
    assert reading("clip", [True, False], (1, 1)).pairs == (0, 1)

"""Two processes with half the batch each take the step of one with the whole batch."""

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from forks import fork
from made_lessons import made_text_encoder
from made_ranks import main as single_steps
from torch import nn

from cxrbench.errors import SpecError
from cxrbench.models.dlilp_layout import named_trunk
from cxrbench.pretrain.batches import reading
from cxrbench.pretrain.gather import GatheredBatchNorm, gather_rows, synchronise_norms

TESTS = Path(__file__).parents[1]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def steps_of_one(out: Path, text: Path, batch: int) -> dict[str, dict[str, torch.Tensor]]:
    begun = fork(single_steps, out, text, batch, said=out.parent / "said", cwd=TESTS)
    assert begun.ended(300) == 0, begun.told
    return read(out)


def steps_of_two(out: Path, text: Path, batch: int) -> dict[str, dict[str, torch.Tensor]]:
    program = [sys.executable, *TORCHRUN, "made_ranks.py", str(out), str(text), str(batch)]
    told = subprocess.run(
        program, cwd=TESTS, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stderr[-2000:]
    return read(out)


def read(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = torch.load(out, weights_only=True)
    return found


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    # dropout draws differ between processes, as they should
    text = made_text_encoder(tmp_path / "text", dropout=0.0, spread=1.0)
    one = steps_of_one(tmp_path / "one.pt", text, 16)
    two = steps_of_two(tmp_path / "two.pt", text, 8)
    assert one.keys() == two.keys()
    for case, wanted in one.items():
        assert two[case].keys() == wanted.keys(), case
        assert abs(two[case]["loss"] - wanted["loss"]) < 1e-10 * abs(wanted["loss"]), case
        largest = max(float(tensor.abs().max()) for name, tensor in wanted.items() if name != "loss")
        for name, tensor in wanted.items():
            torch.testing.assert_close(two[case][name], tensor, rtol=1e-8, atol=1e-10 * largest, msg=f"{case} {name}")


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("name", ["resnet18", "timm:mobilenetv3_small_050"])  # timm's activates where it normalises
def test_normalisation_over_processes_keeps_what_a_network_computes(name: str) -> None:
    torch.manual_seed(0)
    plain = named_trunk(name).module.train()
    twin = synchronise_norms(copy.deepcopy(plain), torch.device("cpu"))
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert not [m for m in twin.modules() if isinstance(m, nn.BatchNorm2d) and not isinstance(m, GatheredBatchNorm)]
    images = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for network in (plain.double(), twin.double()):
        torch.manual_seed(0)
        network(images).square().sum().backward()
    for one, other in (
        (plain.named_parameters(), twin.named_parameters()),
        (plain.named_buffers(), twin.named_buffers()),
    ):
        for (label, wanted), (_, found) in zip(one, other, strict=True):
            pair = (found, wanted) if wanted.grad is None else (found.grad, wanted.grad)
            torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-10, msg=label)


def test_normalisation_that_has_no_counterpart_is_refused() -> None:
    class Own(nn.BatchNorm2d):
        pass

    for layer in (Own(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, momentum=None), nn.BatchNorm1d(3)):
        with pytest.raises(SpecError, match=r"image\.trunk: its .* cannot be spread"):
            synchronise_norms(nn.Sequential(layer), torch.device("cpu"))


def test_one_process_gathers_nothing() -> None:
    vectors = torch.rand(3, 2)
    assert gather_rows(vectors, (3,), 0) is vectors


def test_every_process_reads_a_text_where_any_does() -> None:
    found = reading("dlilp", [True, False, True, False, False], (3, 2))
    assert found.of == ((0, 2), (3,))
    assert (found.texts, found.pairs) == ((0, 1), (0, 2))
    one = reading("dlilp", [True, False, False], (3,))
    assert (one.of, one.texts) == (((),), ())  # one report sentence: no contrastive term, so nothing is read
    assert reading("unimodal", [True, True], (2,)).of == ((),)
    assert reading("clip", [True, False], (1, 1)).pairs == (0, 1)

"""How many processes there are, and which of them speaks, by what launchers leave in the environment."""

import pytest

from cxrbench.errors import SpecError
from cxrbench.pretrain.engine import Started, speaks, started


def test_alone_the_configuration_decides() -> None:
    assert started(2, 3, {}) == Started(2, 3, "run")
    assert started(1, 1, {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}).ranks == 1  # a batch script, without srun
    assert started(4, 1, {"SLURM_STEP_NUM_TASKS": "1"}) == Started(4, 1, "run")  # a shell that srun opened


def test_torchrun_knows_better() -> None:
    told = {"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2"}
    assert started(1, 1, told) == Started(4, 2, "torchrun")


def test_tasks_of_srun_train_together_without_being_told() -> None:
    told = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4", "PMI_SIZE": "8"}
    assert started(1, 1, told) == Started(4, 2, "srun")
    with pytest.raises(SpecError, match="7 tasks on 2 nodes; say how many on each by --nodes and --ntasks-per-node"):
        started(1, 1, {**told, "SLURM_STEP_NUM_TASKS": "7"})
    del told["SLURM_NTASKS_PER_NODE"]
    with pytest.raises(SpecError, match="8 tasks on 2 nodes"):
        started(1, 1, told)


def test_processes_of_another_launcher_do_not_each_train_alone() -> None:
    with pytest.raises(SpecError, match="OMPI_COMM_WORLD_SIZE is 4: start several processes by torchrun or srun"):
        started(1, 1, {"OMPI_COMM_WORLD_SIZE": "4"})


def test_only_the_first_speaks() -> None:
    assert speaks({})
    assert speaks({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"})
    assert not speaks({"RANK": "4", "LOCAL_RANK": "0"})
    assert not speaks({"SLURM_PROCID": "4"})
    assert not speaks({"LOCAL_RANK": "1"})

"""Who started the processes of a run, and how many: torchrun, srun, or the run itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cxrbench.errors import SpecError

Starter = Literal["torchrun", "srun", "run"]
_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@dataclass(frozen=True, slots=True)
class Started:
    """`devices` processes on each of `nodes` machines, started `by` torchrun, srun, or the run itself."""

    devices: int
    nodes: int
    by: Starter

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return self.devices * self.nodes


def started(devices: int, nodes: int, environment: Mapping[str, str]) -> Started:
    """What torchrun or srun started; without either, what the configuration asks for.

    Tasks of srun that did not know of each other would each train alone, into one folder. Raises SpecError for tasks
    of which it is not said how many each machine has (Lightning asks for it), and for processes of another launcher.
    """
    if "LOCAL_WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return Started(local, int(environment["WORLD_SIZE"]) // local, "torchrun")
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        machines = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        if tasks % machines or environment.get("SLURM_NTASKS_PER_NODE") != str(tasks // machines):
            raise SpecError(
                f"srun started {tasks} tasks on {machines} nodes; say how many on each by --nodes and --ntasks-per-node"
            )
        return Started(tasks // machines, machines, "srun")
    strange = [name for name in _MPI if int(environment.get(name, "1")) > 1]
    if strange:
        raise SpecError(f"{strange[0]} is {environment[strange[0]]}: start several processes by torchrun or srun")
    return Started(devices, nodes, "run")


def speaks(environment: Mapping[str, str]) -> bool:
    """Whether this is, by its environment, the first process of a run, or the only one; known before they meet."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((environment[name] for name in names if name in environment), "0") == "0"

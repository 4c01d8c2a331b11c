"""Several processes of a program, as `torchrun --standalone` starts them, from the process of the tests.

They are forked from a server that has imported torch and the library, which takes most of the time of a short program.
The launcher of its own takes as long to start as a process does; that of the command is in `test_several_processes`.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from torch.distributed import TCPStore

SERVER = multiprocessing.get_context("forkserver")
# dynamo, because the first optimizer imports it
SERVER.set_forkserver_preload(["torch._dynamo", "diffuscope.audit", "diffuscope.monitor", "diffuscope.training"])


def launch(program: Callable[[Path], None], folder: Path, processes: int) -> None:
    """`program(folder)` in each, to their ends; AssertionError with what one printed to stderr if it fails.

    That ends the others. `program` is a function of a module that tests can import.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # where they meet
    common = {
        "TORCHELASTIC_RUN_ID": "tests", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    said = [folder / f"stderr{rank}.txt" for rank in range(processes)]
    with ExitStack() as stack:
        started = []
        for rank, where in enumerate(said):
            environment = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            started.append(SERVER.Process(target=_run, args=(program, folder, environment, where)))
            started[-1].start()
            stack.callback(started[-1].join)
            stack.callback(started[-1].kill)
        end = time.monotonic() + 900
        while {each.exitcode for each in started} != {0}:
            for each, where in zip(started, said, strict=True):
                assert each.exitcode in (None, 0), f"exit code {each.exitcode}: {where.read_text()}"
            assert time.monotonic() < end
            time.sleep(0.05)


def _run(program: Callable[[Path], None], folder: Path, environment: Mapping[str, str], said: Path) -> None:
    """In the process started: its environment, and its messages in a file."""
    os.environ.clear()
    os.environ.update(environment)
    with said.open("w") as file:
        os.dup2(file.fileno(), 2)
    program(folder)

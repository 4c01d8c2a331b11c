"""Several processes of a program, as `torchrun --standalone` starts them, from the process of the tests.

The launcher of its own takes as long to start as a process does; that of the command is in `test_several_processes`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

from torch.distributed import TCPStore


def launch(program: Path, arguments: Sequence[str], processes: int) -> None:
    """Run them to their ends; AssertionError with what one printed to stderr if it fails, which ends the others."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # where they meet
    common = {
        "TORCHELASTIC_RUN_ID": "tests", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with ExitStack() as stack:
        said = [stack.enter_context(TemporaryFile("w+")) for _ in range(processes)]
        started = [
            subprocess.Popen(
                [sys.executable, program, *arguments],
                env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=said[rank],
            )
            for rank in range(processes)
        ]
        for each in started:
            stack.callback(each.wait)
            stack.callback(each.kill)
        end = time.monotonic() + 900
        while {each.poll() for each in started} != {0}:
            for each, where in zip(started, said, strict=True):
                where.seek(0)
                assert each.returncode in (None, 0), where.read()
            assert time.monotonic() < end
            time.sleep(0.05)

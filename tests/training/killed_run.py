"""A program that begins a training run and kills it with SIGKILL, again and again, at arbitrary moments.

The run saves and logs every few steps. Called with the checkpoint's path (the log lies beside it), a number of kills
and a seed; prints the number of runs that it killed. Last it makes a few steps itself, prints where it is, and dies of
a Ctrl-C that its own loop does not catch.
The children are forked before any computation, so that torch is imported only once.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer would import it, for seconds, in every child
from training_models import KILLED_SETTINGS, SmallDenoiser, killed_log, vectors

from diffuscope.training import train


def main(checkpoint: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    moments = random.Random(seed)
    killed = 0
    for life in range(kills):
        before = _written(checkpoint)
        child = os.fork()
        if child == 0:
            # other initial weights in every life but the first: what counts is on the disk
            denoiser, log = SmallDenoiser(3, seed=life), killed_log(checkpoint.with_suffix(".jsonl"))
            for _ in train(denoiser, vectors(), KILLED_SETTINGS, checkpoint=checkpoint, save_every=0.005, log=log):
                pass
            os._exit(0)
        while _written(checkpoint) == before:  # some progress in every life
            time.sleep(1e-3)
        time.sleep(moments.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    print(killed)


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    # a module's name outlives its traceback: Python is torn down before this generator is closed
    path = Path(sys.argv[1])
    log = killed_log(path.with_suffix(".jsonl"))
    run = train(SmallDenoiser(3), vectors(), KILLED_SETTINGS, checkpoint=path, log=log)
    for taken, progress in enumerate(run):
        if taken == 5:
            print(progress.step)
            raise KeyboardInterrupt

"""Replays that are killed and started again, each in a forked child of a process that is warm.

    python -m tests.streaming.killing moments|steps KILLS FOLDER [STRIDE]

Steps are those at which files get and lose their names; STRIDE leaves some of them out. Prints
what it killed as JSON. Forking spares every start Python's imports and the kernels.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

import evtsim
from evtsim import workloads
from evtsim.checkpoint import read

RECORDS = 24_000


def replay(folder, trace, every, threads=1):
    """Replay a trace with everything that can be kept, and save the run."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)  # the run says where its parts are
    run = evtsim.replay_file(
        trace,
        guest=evtsim.Guest(),
        drain=True,
        outcomes="outcomes",
        deliveries="deliveries",
        checkpoint="checkpoints",
        every=every,
        resume=True,
        threads=threads,
    )
    run.save("run", overwrite=True)


def die_at(step):
    """Have this process killed before the n-th time that it renames or removes a file."""
    left = [step]

    def dying(function):
        def wrapper(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return wrapper

    Path.replace, Path.unlink = dying(Path.replace), dying(Path.unlink)


def killed(folder, trace, every, after=None, step=None, threads=1):
    """Replay in a child, and kill it after some seconds or steps. Tell whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("error")
            if step is not None:
                die_at(step)
            replay(folder, trace, every, threads)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the child failed: {status}"
    return os.WIFSIGNALED(status)


def look(folder):
    """Open all that a reader sees in the folders; return how many parts there are."""
    parts = 0
    for name in ("outcomes", "deliveries"):
        for path in (folder / name).glob("[!.]*"):
            pq.ParquetFile(path).read()
            parts += 1
    for path in (folder / "checkpoints").glob("[!.]*"):
        read(path)
    if (folder / "run" / "run.json").exists():
        evtsim.Run.load(folder / "run")
        for path in (folder / "run").glob("[!.]*.parquet"):
            pd.read_parquet(path)
    return parts


def contents(folder):
    """Return every file's name and bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def kill_many(how, kills, folder, stride=1):
    """Kill replays, at random moments or step by step, and complete them; return what happened."""
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder / "t.parquet"
    workloads.generate("mixed", records=RECORDS, domains=6, rate=4000).save(trace)
    every = RECORDS // (8 if how == "moments" else 2)
    replay(folder / "warm", trace, every)
    before = time.perf_counter()
    assert not killed(folder / "whole", trace, every)
    span = time.perf_counter() - before
    wanted = contents(folder / "whole")
    draw = random.Random(1)
    done, completed, seen, broken = 0, 0, set(), folder / "broken"
    while done < kills:
        if how == "moments":  # again and again, until it ends before its time
            while done < kills and killed(
                broken, trace, every, after=draw.uniform(0, span), threads=1 + done % 2
            ):
                done += 1
                seen.add(look(broken))
            killed(broken, trace, every, threads=1 + done % 2)
        else:
            if not killed(broken, trace, every, step=done * stride):
                break
            done += 1
            seen.add(look(broken))
            assert not killed(broken, trace, every)
        left = contents(broken)
        assert left == wanted, sorted(n for n in {*left, *wanted} if left.get(n) != wanted.get(n))
        completed += 1
        shutil.rmtree(broken)
    return {"killed": done, "completed": completed, "parts_seen": sorted(seen)}


if __name__ == "__main__":
    how, kills, folder, *stride = sys.argv[1:]
    print(json.dumps(kill_many(how, int(kills), Path(folder).resolve(), *map(int, stride))))

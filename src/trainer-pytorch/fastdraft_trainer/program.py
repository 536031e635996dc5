"""The process: arguments, signals, exit codes. torch is imported late, so that a Python without it can say so."""
import argparse
import importlib
import json
import os
import platform
import signal
import sys
import threading

from .protocol import CANCELLED, Cancelled, Events, Kind, TrainingFailure, classify, first_line


def main(arguments):
    parser = argparse.ArgumentParser(prog="fastdraft-trainer", description="Trains a draft model; one process a card, started by the worker or by torchrun.")
    parser.add_argument("job", nargs="?", help="job file that a stage wrote")
    parser.add_argument("--lease", action="store_true", help="end at once when standard input ends, and in order when it says stop")
    parser.add_argument("--describe", action="store_true", help="print what this Python has, as JSON")
    given = parser.parse_args(arguments)
    if given.describe:
        print(json.dumps(describe()))
        return 0
    if not given.job:
        parser.error("a job file is needed")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if given.lease:
        threading.Thread(target=_live_on, args=(stop,), daemon=True).start()
    events = Events(leads=os.environ.get("RANK", "0") in ("", "0"))
    try:
        _train(given.job, events, stop)
        return 0
    except Cancelled:
        code = CANCELLED
    except Exception as error:
        # A process that was asked to end and lost the others on the way has nothing to complain of.
        failure = classify(error)
        if stop.is_set() and failure.kind == Kind.Infrastructure:
            code = CANCELLED
        else:
            if failure.kind == Kind.Bug:
                import traceback

                traceback.print_exc()
            code = events.failure(failure)
    # Threads of a broken collective may never end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def describe():
    """What `fastdraft doctor` asks."""
    found = {"python": platform.python_version()}
    for name in ("torch", "safetensors", "numpy"):
        try:
            found[name] = importlib.import_module(name).__version__
        except Exception as error:
            # A broken install raises more than ImportError.
            found[name], found[name + "Problem"] = None, first_line(error)
    found["cuda"] = found["hpu"] = 0
    if found["torch"]:
        import torch

        found["cuda"] = torch.cuda.device_count()
        found["compile"] = hasattr(torch, "compile")
        try:
            found["hpu"] = importlib.import_module("habana_frameworks.torch.hpu").device_count()
            found["habana"] = True
        except Exception as error:
            found["habana"], found["habanaProblem"] = False, first_line(error)
    return found


def _train(path, events, stop):
    try:
        from .devices import open_device
        from .job import Job
        from .trainer import Trainer
        from .world import World
    except ImportError as error:
        raise TrainingFailure(Kind.Config, f"'{sys.executable}' cannot train: {error}", "FASTDRAFT_PYTHON naming a Python with torch, safetensors and numpy; fastdraft doctor") from error
    job, world = Job.load(path), World()
    device = open_device(job.device, world.local_rank)
    world.join(device)
    Trainer(job, world, device, events, stop.is_set).run()
    world.leave()


def _live_on(stop):
    """Standard input is the lease of life that the worker gives: however it dies, the stream ends and so does this process."""
    for line in sys.stdin:
        if line.strip() == "stop":
            stop.set()
    os.kill(os.getpid(), signal.SIGKILL)

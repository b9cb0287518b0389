"""Notebooks on many machines: dask hands them out, each is run by a process of its own.

A worker that dies costs its notebook a new start, and nothing else; a notebook that fails is not
tried again. Whoever reaches a scheduler of dask may run anything: it is for networks of friends.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

from colorlib import files
from colorlib.batch import run as runner
from colorlib.batch import stamps
from colorlib.batch.plan import RunError, Task

WHOLE = ("finished", "skipped")
PATIENCE = 5  # seconds to wait for a scheduler
SAME = ("notebook", "colorlib", "parameters")  # parts of a stamp that all machines must share


@contextlib.contextmanager
def connect(address: str) -> Iterator[Callable[[runner.Run, bool, int], None]]:
    """Lend what makes reports on a cluster: tcp://HOST:PORT, or local:N, which is started."""
    try:
        import distributed
    except ImportError:
        raise RunError("--cluster needs dask: pip install colorlib[cluster]") from None
    local = re.fullmatch(r"local:([1-9]\d{0,2})", address)
    if not local and not re.fullmatch(r"tcp://.+:\d+", address):
        raise RunError(f"--cluster {address}: must be tcp://HOST:PORT or local:N")
    lost: list[runner.Run] = []
    with contextlib.ExitStack() as stack:
        logging.disable(logging.CRITICAL)  # what matters is said here, in a line
        stack.callback(logging.disable, logging.NOTSET)
        if local:  # no limit on memory: dask would count its worker's, and the kernel has the rest
            own = {"n_workers": int(local[1]), "threads_per_worker": 1, "memory_limit": 0}
            own |= {"dashboard_address": None, "silence_logs": logging.CRITICAL}
            client = distributed.Client(stack.enter_context(distributed.LocalCluster(**own)))
        else:
            try:  # first this: a client waits for ever for what listens and says nothing
                asyncio.run(asyncio.wait_for(_knock(address), PATIENCE))
                client = distributed.Client(address, timeout=PATIENCE)
            except (OSError, ValueError, asyncio.TimeoutError):
                words = f"no scheduler answers at {address}; start one there: dask scheduler"
                raise RunError(words) from None
        stack.callback(client.close, timeout=2)
        if not client.scheduler_info()["workers"]:
            print(f"waiting for workers: dask worker {address}", file=sys.stderr, flush=True)
        yield lambda each, force, _: _make(client, each, force, lost)
    if lost:
        words = f"{len(lost)} not whole; run again: what is whole is kept"
        raise RunError(f"the scheduler at {address} no longer answers, {words}")


async def _knock(address: str) -> None:
    from distributed.core import connect

    (await connect(address)).abort()


def _make(client: Any, each: runner.Run, force: bool, lost: list[runner.Run]) -> None:
    """Skip one notebook, or have it made by a worker and bring home its report."""
    from distributed.scheduler import KilledWorker

    task, root = each.task, files.root()
    with stamps.lock(task):
        current = runner.due(each, force)
    if not current:
        return
    near = task.report.relative_to(root) if task.report.is_relative_to(root) else task.report
    token = task.beside(f"{uuid.uuid4().hex[:8]}.asked")  # seen by who shares this folder
    order = {"task": {**task._asdict(), "report": str(near)}, "token": token.name, "force": force}
    order["parts"] = {part: current[part] for part in SAME}
    files.write_atomic(token, "")
    each.began = time.monotonic()
    try:
        each.elsewhere = client.submit(work, order, pure=False, key=f"{task.title} {token.name}")
        told = each.elsewhere.result()
    except KilledWorker:
        raise RunError("its worker died again and again (out of memory?)") from None
    except Exception as error:
        if not each.stopped and (isinstance(error, CancelledError) or client.status != "running"):
            lost.append(each)  # with the scheduler: nobody asked to end it
            each.stopped = True
        raise
    finally:
        token.unlink(missing_ok=True)
        if each.elsewhere:  # else dask does it again when the worker that did it dies
            each.elsewhere.release()
    if told["files"]:
        _bring(task, current, told["files"])
    each.end(told["state"], told["note"])
    each.seconds = told["seconds"]


def _bring(task: Task, current: dict[str, str], made: dict[str, bytes]) -> None:
    """Publish a report that a worker made in a folder which is not ours."""
    with stamps.lock(task):
        stamps.prepare(task, current)
        for name, content in made.items():
            files.write_atomic(task.partial / name, content)
        stamps.seal(task)
        stamps.publish(task)


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Run a notebook in a process of its own (by a worker); end it when nobody waits any more."""
    import dask
    import distributed

    worker = distributed.get_worker()
    key = worker.get_current_task()
    # one thread is dask's choice for its children, not ours for a kernel
    dasks = dask.config.get("distributed.nanny.pre-spawn-environ")
    environ = {k: v for k, v in os.environ.items() if v != str(dasks.get(k))}

    def unwanted() -> bool:
        here = worker.state.tasks.get(key)
        return not here or here.state == "cancelled" or worker.status.name.startswith("clos")

    if unwanted():
        raise RunError("nobody waits for it any more")
    peers = distributed.get_client().scheduler_info(n_workers=-1)["workers"]
    host = peers[worker.address]["host"]
    order["beside"] = sum(each["nthreads"] for each in peers.values() if each["host"] == host)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "colorlib.batch.cluster"]
    child = subprocess.Popen(command, env=environ, start_new_session=True, **pipes)
    child.stdin.write(json.dumps(order) + "\n")
    child.stdin.flush()
    while child.poll() is None:
        if unwanted():
            child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.3)
    told = child.stdout.read().splitlines()
    if not told:
        raise RunError(f"its process ended with {child.returncode} (out of memory?)")
    outcome, report = json.loads(told[-1]), files.root() / order["task"]["report"]
    there = (report.parent / order["token"]).exists() or outcome["state"] not in WHOLE
    made = [] if there else [path for path in report.rglob("*") if path.is_file()]
    home = {str(p.relative_to(report)): p.read_bytes() for p in made if p.name != stamps.STAMP}
    return {**outcome, "files": home}


def main() -> None:
    """Read an order, run it, and say what came of it; end when the other side does."""
    order = json.loads(sys.stdin.readline())
    about = order["task"]
    task = Task(**{**about, "report": files.root() / about["report"], "reads": (*about["reads"],)})

    def make(each: runner.Run, force: bool, _: int) -> None:
        here = stamps.stamp(task)
        if other := [part for part in SAME if here[part] != order["parts"][part]]:
            raise RunError(f"this worker has another {' and '.join(other)}; take the same commit")
        runner.make_report(each, force, order["beside"])

    threading.Thread(target=_end_with_stdin, daemon=True).start()
    [each] = runner.run_tasks([[task]], force=order["force"], make=make)
    print(json.dumps({"state": each.state, "note": each.note, "seconds": each.seconds}))


def _end_with_stdin() -> None:
    """End at once when the worker has closed it, or is dead: half-made runs are never published."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()

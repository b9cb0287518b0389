"""Notebooks on many machines: dask hands them out, each is run by a process of its own.

A worker that dies costs its notebook a new start, and nothing else; a notebook that fails is not
tried again. Whoever reaches a scheduler of dask may run anything: it is for networks of friends.
"""

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from colorlib import files
from colorlib.batch import run as runner
from colorlib.batch import stamps
from colorlib.batch.plan import RunError, Task

PATIENCE = 5  # seconds to wait for a scheduler
SAME = ("notebook", "colorlib", "parameters")  # parts of a stamp that all machines must share


@contextlib.contextmanager
def connect(address: str) -> Iterator[Callable[[runner.Run, bool, int], None]]:
    """Lend what makes reports on a cluster: tcp://HOST:PORT, or local:N, which is started."""
    try:
        import distributed
    except ImportError:
        raise RunError("--cluster needs dask: pip install colorlib[cluster]") from None
    for name in [
        name for name in logging.root.manager.loggerDict if name.startswith("distributed")
    ]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said here, in a line
    local = re.fullmatch(r"local:([1-9]\d{0,2})", address)
    if not local and not re.fullmatch(r"tcp://.+:\d+", address):
        raise RunError(f"--cluster {address}: must be tcp://HOST:PORT or local:N")
    lost: list[runner.Run] = []
    with contextlib.ExitStack() as stack:
        if local:  # the kernels are no part of what dask calls a worker's memory: no limit on that
            own = {"n_workers": int(local[1]), "threads_per_worker": 1, "memory_limit": 0}
            own |= {"dashboard_address": None, "silence_logs": logging.CRITICAL}
            target = stack.enter_context(distributed.LocalCluster(**own))

        async def answers() -> None:
            (await distributed.core.connect(address)).abort()

        try:  # a client alone waits for ever for what listens and says nothing
            if not local:
                asyncio.run(asyncio.wait_for(answers(), PATIENCE))
            client = distributed.Client(target if local else address, timeout=PATIENCE)
        except (OSError, ValueError, TimeoutError, asyncio.TimeoutError):
            words = f"no scheduler answers at {address}; start one there: dask scheduler"
            raise RunError(words) from None
        stack.callback(client.close, timeout=2)
        if not client.scheduler_info()["workers"]:
            print(f"waiting for workers: dask worker {address}", file=sys.stderr, flush=True)
        yield lambda each, force, _: _make(client, each, force, lost)
    if lost:
        words = f"{len(lost)} not whole; run again: what is whole is kept"
        raise RunError(f"the scheduler at {address} no longer answers, {words}")


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
    if told["packed"]:
        _bring(task, current, told["packed"])
    each.end(told["state"], told["note"])
    each.seconds = told["seconds"]


def _bring(task: Task, current: dict[str, str], packed: bytes) -> None:
    """Publish a report that a worker made in a folder which is not ours."""
    with stamps.lock(task):
        stamps.recover(task)
        stamps.prepare(task, current)
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(task.partial)
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
    report, packed = files.root() / order["task"]["report"], b""
    outcome = json.loads(told[-1])
    whole = outcome["state"] in ("finished", "skipped")
    if whole and not (report.parent / order["token"]).exists():
        packed = _pack(report)
    return {**outcome, "packed": packed}


def _pack(report: Path) -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        for path in sorted(report.rglob("*")):
            if path.name != stamps.STAMP:
                archive.write(path, path.relative_to(report))
    return stream.getvalue()


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

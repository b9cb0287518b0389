"""Many runs in one process: nothing piles up."""

from __future__ import annotations

import gc

import psutil
import pytest
import tiny

from colorlib.batch import run as runner


@pytest.mark.slow
@pytest.mark.parametrize("runs", [5, pytest.param(200, marks=pytest.mark.long)])
def test_runs_in_one_process_keep_no_file_open_and_no_memory(tmp_path, monkeypatch, runs):
    root = tiny.use(tmp_path.resolve(), monkeypatch)
    tiny.write(root, "01_good", "# Good", f"%%parameters\n{tiny.PARAMETERS}", tiny.RECORD)
    process, handles, memory = psutil.Process(), [], []
    before = process.children()  # of other tests: one that looks after shared memory stays
    for _ in range(runs + 1):
        [each] = runner.run(["01"], force=True)
        assert each.state == "finished", each.note
        gc.collect()  # each run's thread has had an event loop, which goes with the thread's state
        handles.append(process.num_fds())
        memory.append(process.memory_info().rss)
    assert len(set(handles[1:])) == 1, handles
    if runs > 100:  # the first few fill caches
        assert max(memory[-20:]) < 1.05 * max(memory[20:40]), [m >> 20 for m in memory[::20]]
    assert {*process.children(recursive=True)} <= {*before}

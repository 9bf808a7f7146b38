"""How threads of the fast simulator share chunks and layers: the same integers however many."""

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from snnc.simulate import fast, reference
from snnc.simulate.sliced import run as sliced_run
from snnc.simulate.sliced.work import Work
from snnc.testing.programs import generate


@pytest.mark.parametrize("processors", [1, 2, 3, 5])
@pytest.mark.parametrize("samples", [1, 64, 65, 128, 150, 200])
def test_any_number_of_threads_gives_what_numpy_gives(samples, processors, monkeypatch):
    monkeypatch.setattr(fast, "processors", lambda: processors)
    for seed in (1, 4):
        program, codes = generate(seed, samples=(samples, samples))
        got = fast.run(program, codes, raster=True)
        want = reference.run(program, codes, raster=True)
        np.testing.assert_array_equal(got.logits, want.logits)
        for one, other in zip(got.layers, want.layers, strict=True):
            np.testing.assert_array_equal(one.raster, other.raster)
        for one, other in zip(got.synapses, want.synapses, strict=True):
            np.testing.assert_array_equal(one.events, other.events)


def test_chunks_as_many_as_threads_do_not_share_layers(monkeypatch):
    monkeypatch.setattr(fast, "processors", lambda: 2)
    shared, trace = [], sliced_run.Run.trace

    def noted(run, *arguments):
        shared.append(run.work.number)
        return trace(run, *arguments)

    monkeypatch.setattr(sliced_run.Run, "trace", noted)
    program, codes = generate(1, samples=(200, 200))  # four chunks of 64 samples at most
    fast.run(program, codes, raster=False)
    fast.run(program, codes[:150], raster=False)  # two, and one for both threads
    assert shared == [1] * 4 + [1] * 2 + [2]
    monkeypatch.setattr(fast, "TOGETHER", 1)  # no room for what two chunks read
    fast.run(program, codes, raster=False)
    assert shared[7:] == [2] * 4


def work(threads, number):
    return Work(kernels=threading, threads=threads, number=number)


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("jobs", [0, 1, 3, 100])
def test_every_job_of_a_kernel_is_done_once(jobs, number):
    done = np.zeros(jobs, dtype=int)

    def kernel(first, last, step):
        done[first:last] += step

    with ThreadPoolExecutor(number) as threads:
        work(threads, number).share(kernel, jobs, 1)
    assert (done == 1).all()


def test_what_goes_wrong_in_a_piece_is_told_by_whoever_did_it():
    def kernel(first, last):
        raise IndexError(f"{first} to {last}")

    with ThreadPoolExecutor(2) as threads, pytest.raises(IndexError, match=r"\d+ to \d+"):
        work(threads, 2).share(kernel, 100)


def test_after_a_failure_no_thread_goes_on():
    done = []

    def task(alone, thread):
        for step in range(1000):
            alone.share(lambda first, last: time.sleep(0.005), 1)
            done.append((thread, step))
            if (thread, step) == (0, 2):
                raise MemoryError
        return thread

    with ThreadPoolExecutor(2) as threads:
        both = work(threads, 2)
        with pytest.raises(MemoryError):
            both.each(task)
    assert len(done) < 100
    with pytest.raises(CancelledError):
        both.share(lambda first, last: None, 1)

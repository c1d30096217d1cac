import os
import time

import pytest

from crcore.batch import run_jobs
from crcore.errors import InputError


def square(x):
    return x * x


def picky(x):
    if x == 1:
        raise InputError("one: is no number to square")
    if x == 2:
        raise ZeroDivisionError("two")
    return x


def deadly(x):
    if x == 1:
        time.sleep(0.3)
        os._exit(7)
    return x * x


def test_results_come_with_the_number_of_their_job():
    assert list(run_jobs(square, [(3,), (4,), (5,)])) == [(0, 9), (1, 16), (2, 25)]


def test_no_jobs_give_no_results():
    assert list(run_jobs(square, [])) == []


def test_job_that_fails_is_its_own_result_and_stops_no_other():
    found = dict(run_jobs(picky, [(0,), (1,), (2,), (3,)]))
    assert (found[0], found[3]) == (0, 3)
    assert isinstance(found[1], InputError)
    assert isinstance(found[2], ZeroDivisionError)


def test_one_worker_needs_no_dask(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask.distributed", None)
    assert list(run_jobs(square, [(2,)])) == [(0, 4)]


def test_results_come_as_they_are_made():
    seen = []
    jobs = run_jobs(seen.append, [(1,), (2,)])
    next(jobs)
    assert seen == [1]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_job_that_kills_its_process_is_reported_and_the_others_finish(capfd):
    found = dict(run_jobs(deadly, [(k,) for k in range(5)], workers=2))
    assert {k: v for k, v in found.items() if k != 1} == {0: 0, 2: 4, 3: 9, 4: 16}
    assert isinstance(found[1], Exception)
    assert "Traceback" not in capfd.readouterr().err


def test_scheduler_that_does_not_answer_is_reported(monkeypatch):
    from dask import distributed

    client = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda cluster, timeout: client(cluster, timeout="1s"))
    with pytest.raises(InputError, match=r"^tcp://127\.0\.0\.1:9: no scheduler with workers answers there[^\n]*$"):
        list(run_jobs(square, [(1,)], scheduler="tcp://127.0.0.1:9"))


def test_address_that_is_none_is_reported():
    with pytest.raises(InputError, match=r"^nonsense://here: [^\n]*$"):
        list(run_jobs(square, [(1,)], scheduler="nonsense://here"))

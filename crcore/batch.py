"""Many jobs over the processes of this machine, or over a cluster (Dask); one that fails stops no other."""

import logging

from crcore.errors import InputError

__all__ = ["run_jobs"]


def run_jobs(function, jobs, *, workers=1, scheduler=None):
    """Call ``function(*job)`` for each job, as results come.

    Parameters
    ----------
    function : callable
        Importable by name; returns something small (large results belong on disk). With several workers it may run
        twice for one job, where its worker dies: let the second run replace what the first wrote.
    jobs : list of tuple
        Arguments, small too.
    workers : int, optional
        Processes on this machine; 1 works in this one, without Dask.
    scheduler : str, optional
        Address of a running Dask scheduler, such as ``tcp://10.0.0.1:8786``, in place of ``workers``.
        Its workers need this package and the same folders.

    Yields
    ------
    index : int
        Which job.
    result : object or Exception
        What ``function`` returned, or the error that ended it.

    Raises
    ------
    InputError
        When the scheduler does not answer.
    """
    if scheduler is None and workers <= 1:
        for index, job in enumerate(jobs):
            try:
                yield index, function(*job)
            except Exception as error:
                yield index, error
        return
    import dask
    from dask.distributed import Client, LocalCluster, as_completed

    # A worker that dies is reported as the result of its job; Dask's own log of it would come between.
    quiet = logging.ERROR if scheduler else logging.CRITICAL
    # One job waits at the scheduler rather than at a worker: who dies takes no other job along.
    dask.config.set({"distributed.scheduler.worker-saturation": 1.0, "distributed.scheduler.allowed-failures": 1})
    try:
        cluster = scheduler or LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=quiet,
        )
        client = Client(cluster, timeout="20s")
        client.wait_for_workers(1, timeout=60)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise InputError(
            f"{scheduler or 'Dask'}: no scheduler with workers answers there ({error}): check the address"
        ) from None
    try:
        futures = {client.submit(function, *job, pure=False, retries=0): index for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            try:  # once: a worker may die between two questions, and Dask then does the job again
                result = future.result()
            except Exception as error:
                result = error
            yield futures[future], result
            future.release()
    finally:
        client.close()
        if scheduler is None:
            cluster.close()

"""What `fit` costs on a dask cluster, measured here and modelled for a large one.

    python -m benchmarks.dask_scaling
    python -m benchmarks.dask_scaling --quick
    python -m benchmarks.dask_scaling --simulation

The first prints what each chunk costs (bytes, tasks, seconds of the scheduler), the
speed-up from one worker to two, a simulation of the task graph on up to a thousand
workers compared with the formula of the docs, and the formula's result for a trillion
rows. The second does the same with fewer and smaller chunks. The last only simulates,
with a scheduler of 1 ms per task.
"""

from __future__ import annotations

import argparse
import heapq
import math
import pickle
import time
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.core import get_dependencies
from dask.order import order
from distributed import Client, LocalCluster, get_task_stream, wait

from benchmarks.memory import peak_resident
from sk_batchnorm._rule import rule_of
from sk_batchnorm.dask import DaskBatchNorm1dTransformer, _joined

N_FEATURES = 64
SPLIT_EVERY = 16
SPREAD = 0.2  # of the simulated chunks' times, to either side of their mean


@dataclass
class Costs:
    """What the model is made of; times in seconds."""

    part_bytes: float  # what a chunk says
    rows_per_second: float  # that one worker learns from, in its memory
    join: float  # of one part
    build: float  # the graph, per task, before the first one runs
    schedule: float  # the scheduler, per task, while they run
    task_bytes: float  # memory of client and scheduler, per task


def cluster_of(n_workers: int) -> LocalCluster:
    """Make worker processes of one thread each, which keep the chunks they have."""
    with dask.config.set({"distributed.scheduler.work-stealing": False}):
        return LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            memory_limit=0,
        )


def lazy_graph(n_chunks: int, rows: int = 2) -> Any:
    """Make the lazy result of fit on so many chunks."""
    X = da.ones((rows * n_chunks, N_FEATURES), chunks=(rows, N_FEATURES))
    rule = rule_of(0.1, "within", True)
    return _joined(DaskBatchNorm1dTransformer(), X, None, 256, rule)


def part_of(rows: int) -> Any:
    """Make what a chunk of so many rows says."""
    (part,) = lazy_graph(1, rows).compute(scheduler="synchronous").flat
    return part


def outgoing(dask_worker: Any) -> int:
    """Bytes that a worker has sent to other workers."""
    return int(dask_worker.transfer_outgoing_bytes_total)


def bytes_per_chunk() -> float:
    """Print what a chunk says, and what travels between two workers."""
    n_chunks = 32
    print(f"What {n_chunks} chunks of {N_FEATURES} float64 features move, in bytes\n")
    print(
        f"{'rows/chunk':>11}{'a chunk':>13}{'its part':>10}{'chunks moved':>14}"
        f"{'parts moved':>13}{'moved, per chunk':>18}"
    )
    with cluster_of(2) as cluster, Client(cluster) as client:
        for rows in (1024, 8192, 65536):
            X = client.persist(random_rows(n_chunks, rows))
            wait(X)
            before = sum(client.run(outgoing).values())
            DaskBatchNorm1dTransformer().fit(X)
            sent = sum(client.run(outgoing).values()) - before
            part = len(pickle.dumps(part_of(rows), protocol=5))
            chunk = rows * N_FEATURES * 8
            # Dask counts 8 bytes for a part, which is an array of one object.
            chunks, parts = sent // chunk, sent % chunk // 8
            moved = (chunks * chunk + parts * part) / n_chunks
            print(f"{rows:11,}{chunk:13,}{part:10,}{chunks:14}{parts:13}{moved:18,.0f}")
    return part


def random_rows(n_chunks: int, rows: int) -> da.Array:
    """Make chunks of random numbers, lazily."""
    return da.random.default_rng(0).normal(
        size=(n_chunks * rows, N_FEATURES), chunks=(rows, N_FEATURES)
    )


def speed_up(rounds: int) -> float:
    """Print the time of fit on one worker and on two, in turns."""
    rows, n_chunks = 65536, 64
    n_rows = rows * n_chunks
    print(f"\nfit on {n_rows:,} × {N_FEATURES} float64, seconds, best of {rounds}\n")
    print(f"{'':28}{'1 worker':>10}{'2 workers':>11}{'speed-up':>10}")
    with cluster_of(1) as one, cluster_of(2) as two:
        clients = [Client(each, set_as_default=False) for each in (one, two)]
        for name in ("chunks made in the task", "chunks in memory"):
            arrays = []
            for client in clients:
                X = random_rows(n_chunks, rows)
                if name == "chunks in memory":
                    X = client.persist(X)
                    with client.as_current():
                        wait(X)
                arrays.append(X)
            seconds = []
            for _ in range(rounds + 1):
                seconds.append([])
                for client, X in zip(clients, arrays, strict=True):
                    with client.as_current(), dask.config.set(scheduler="distributed"):
                        start = time.perf_counter()
                        DaskBatchNorm1dTransformer().fit(X)
                        seconds[-1].append(time.perf_counter() - start)
            # In the first round workers import what they need.
            best = [min(times) for times in zip(*seconds[1:], strict=True)]
            print(f"{name:28}{best[0]:10.2f}{best[1]:11.2f}{best[0] / best[1]:10.2f}")
        for client in clients:
            client.close()
    return n_rows / best[0]


def scheduler_costs(sizes: list[int]) -> tuple[float, float, float]:
    """Print what growing task graphs cost the process of client and scheduler."""
    print("\nGrowing task graphs, two workers, chunks of two rows\n")
    print(
        f"{'chunks':>8}{'tasks':>9}{'per chunk':>11}{'levels':>8}{'build, ms':>11}"
        f"{'CPU, ms':>10}{'wall, ms':>10}   (per task)"
    )
    with cluster_of(2) as cluster, Client(cluster) as client:
        lazy_graph(64).compute()
        points = []
        for n_chunks in sizes:
            start = time.process_time()
            lazy = lazy_graph(n_chunks)
            dict(dask.optimize(lazy)[0].__dask_graph__())
            build = time.process_time() - start
            start, wall = time.process_time(), time.perf_counter()
            with get_task_stream(client) as stream:
                lazy.compute()
                cpu, wall = time.process_time() - start, time.perf_counter() - wall
            tasks = len(stream.data)
            points.append((tasks, build, cpu, peak_resident()))
            print(
                f"{n_chunks:8,}{tasks:9,}{tasks / n_chunks:11.3f}{depth(n_chunks):8}"
                f"{1e3 * build / tasks:11.3f}{1e3 * cpu / tasks:10.2f}"
                f"{1e3 * wall / tasks:10.2f}"
            )
    (few, build_few, cpu_few, peak_few), (many, build, cpu, peak) = (
        points[0],
        points[-1],
    )
    # Slopes, without what every fit costs once.
    build, cpu, peak = (
        (large - small) / (many - few)
        for small, large in ((build_few, build), (cpu_few, cpu), (peak_few, peak))
    )
    # What the client and the scheduler do with a graph, they do in one process here.
    return build, cpu - build, peak


def seconds_to_join() -> float:
    """Time to join a part to another, on a worker."""
    part = part_of(512)
    rule = {"momentum": 0.1, "variance": "within"}
    n = 2000
    start = time.perf_counter()
    for _ in range(n):
        part.then(part, **rule)
    return (time.perf_counter() - start) / n


def depth(n_chunks: int) -> int:
    """Levels of the tree above the chunks."""
    levels = 1
    while SPLIT_EVERY**levels < n_chunks:
        levels += 1
    return levels


def n_tasks(n_chunks: int) -> int:
    """Tasks of the chunks and of the tree above them."""
    total = nodes = n_chunks
    for _ in range(depth(n_chunks)):
        nodes = math.ceil(nodes / SPLIT_EVERY)
        total += nodes
    return total


def model(
    n_chunks: int, n_workers: int, chunk: float, join: float, schedule: float
) -> float:
    """Seconds from the first task to the root: the formula of the docs."""
    tasks = n_tasks(n_chunks)
    scheduler = tasks * schedule
    workers = max(n_chunks / n_workers - 1, 0) * chunk + tasks * join / n_workers
    longest = (1 + SPREAD) * chunk
    tree = depth(n_chunks) * (schedule + SPLIT_EVERY * join)
    return max(scheduler, workers) + longest + tree


@dataclass
class Graph:
    """Dask's own task graph, in dask's own order."""

    needs: dict[Any, set[Any]]
    priority: dict[Any, int]

    @classmethod
    def of_fit(cls, n_chunks: int) -> Graph:
        """Make the graph of fit on so many chunks."""
        graph = dict(dask.optimize(lazy_graph(n_chunks))[0].__dask_graph__())
        needs = {key: get_dependencies(graph, key) for key in graph}
        return cls(needs, order(graph))


def simulate(
    graph: Graph, n_workers: int, chunk: float, join: float, schedule: float
) -> float:
    """Seconds until the root is there, on simulated workers.

    A worker runs a task at a time, and asks the scheduler for the next one when it
    is done; the scheduler serves one such call after the other. Chunks differ in
    what they take by a fifth.
    """
    needs, priority = graph.needs, graph.priority
    needed_by: dict[Any, list[Any]] = {key: [] for key in needs}
    for key, keys in needs.items():
        for each in keys:
            needed_by[each].append(key)
    waiting = {key: len(keys) for key, keys in needs.items()}
    ready = [(priority[key], key) for key, n in waiting.items() if not n]
    heapq.heapify(ready)
    rng = np.random.default_rng(0)
    running: list[tuple[float, Any]] = []
    idle, now, scheduler_free = n_workers, 0.0, 0.0
    while ready or running:
        while ready and idle:
            key = heapq.heappop(ready)[1]
            seconds = len(needs[key]) * join
            if not needs[key]:
                seconds = chunk * rng.uniform(1 - SPREAD, 1 + SPREAD)
            heapq.heappush(running, (now + seconds, priority[key], key))
            idle -= 1
        done, _, key = heapq.heappop(running)
        now = scheduler_free = max(done, scheduler_free) + schedule
        idle += 1
        for later in needed_by[key]:
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, (priority[later], later))
    return now


def simulation(join: float, schedule: float, sizes: list[int]) -> None:
    """Print the simulation beside the formula."""
    ratios = []
    print("\nSimulated task graphs beside the formula\n")
    print(
        f"{'chunks':>8}{'workers':>9}{'s/chunk':>9}{'tasks':>9}"
        f"{'simulated, s':>14}{'formula, s':>12}{'ratio':>7}"
    )
    for n_chunks in sizes:
        graph = Graph.of_fit(n_chunks)
        for n_workers in (10, 100, 1000):
            for chunk in (0.1, 1.0, 10.0):
                times = chunk, join, schedule
                simulated = simulate(graph, n_workers, *times)
                formula = model(n_chunks, n_workers, *times)
                ratios.append(simulated / formula)
                print(
                    f"{n_chunks:8,}{n_workers:9,}{chunk:9.1f}{len(graph.needs):9,}"
                    f"{simulated:14.1f}{formula:12.1f}{ratios[-1]:7.2f}"
                )
    print(f"\nratio from {min(ratios):.2f} to {max(ratios):.2f}")


def on_paper(costs: Costs, n_workers: int, n_rows: int, read: float) -> None:
    """Print the formula for a cluster that is not here."""
    row_bytes = N_FEATURES * 8
    print(
        f"\nOn paper: {n_rows:.0e} rows × {N_FEATURES} float64, "
        f"{n_rows * row_bytes / 1e12:,.0f} TB, on {n_workers:,} workers that each "
        f"read {read / 1e9:g} GB/s\n"
    )
    print(
        f"{'rows/chunk':>11}{'MB':>7}{'chunks':>12}{'levels':>8}{'s/chunk':>9}"
        f"{'graph, s':>10}{'scheduler, s':>14}{'workers, s':>12}{'total, min':>12}"
        f"{'moved, GB':>11}{'scheduler, GB':>15}"
    )
    for rows in (2**17, 2**19, 2**20, 2**21, 2**22):
        n_chunks = math.ceil(n_rows / rows)
        tasks = n_tasks(n_chunks)
        chunk = rows * row_bytes / read + rows / costs.rows_per_second
        graph = tasks * costs.build
        total = graph + model(n_chunks, n_workers, chunk, costs.join, costs.schedule)
        print(
            f"{rows:11,}{rows * row_bytes / 2**20:7.0f}{n_chunks:12,}"
            f"{depth(n_chunks):8}{chunk:9.2f}{graph:10.0f}"
            f"{tasks * costs.schedule:14.0f}{n_chunks / n_workers * chunk:12.0f}"
            f"{total / 60:12.1f}{tasks * costs.part_bytes / 1e9:11.1f}"
            f"{tasks * costs.task_bytes / 1e9:15.1f}"
        )
    least = costs.schedule * n_workers * n_tasks(10**6) / 10**6
    print(
        f"\nThe scheduler keeps {n_workers:,} workers busy if a chunk takes them "
        f"{least:.2f} s or more."
    )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller and fewer")
    parser.add_argument("--simulation", action="store_true")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--rows", type=float, default=1e12)
    parser.add_argument("--read", type=float, default=1e9, help="bytes/s and worker")
    arguments = parser.parse_args()
    if arguments.simulation:
        simulation(join=50e-6, schedule=1e-3, sizes=[100, 1000])
        return
    part_bytes = bytes_per_chunk()
    rows_per_second = speed_up(rounds=3 if arguments.quick else 9)
    sizes = [100, 300] if arguments.quick else [300, 1000, 3000, 10_000]
    build, schedule, task_bytes = scheduler_costs(sizes)
    costs = Costs(
        part_bytes, rows_per_second, seconds_to_join(), build, schedule, task_bytes
    )
    print(
        f"\nA worker learns from {costs.rows_per_second:,.0f} rows/s; a join takes "
        f"{1e6 * costs.join:.0f} µs,\nthe graph {1e3 * build:.3f} ms per task, the "
        f"scheduler {1e3 * schedule:.2f} ms and {task_bytes / 1e3:.1f} kB"
    )
    simulation(
        costs.join,
        schedule,
        [100, 1000] if arguments.quick else [100, 1000, 10_000, 100_000],
    )
    on_paper(costs, arguments.workers, int(arguments.rows), arguments.read)


if __name__ == "__main__":
    main()

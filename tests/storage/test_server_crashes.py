"""Writers whose server crashes and comes back."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from storage import jobs, metrics
from storage.database import open_store
from storage.jobs import Settlement
from storage.patience import patiently
from storage.states import State
from tests.postgres import Cluster, cluster


@pytest.fixture(scope="module")
def own_cluster() -> Any:
    """A server that the tests of this file may stop."""
    with cluster() as running:
        yield running


def test_writers_go_on_by_themselves_through_crashes_of_the_server(own_cluster: Cluster) -> None:
    """Every acknowledged point is there once after each crash; no job is settled twice."""
    with own_cluster.database() as url:
        store = open_store(url)
        with store.write() as session:
            jobs.submit(session, kind="train", name="run", spec={}, lane="gpu")
            taken = jobs.claim(session, jobs.Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
        assert taken is not None
        written: list[int] = []
        ended = threading.Event()

        def report() -> None:
            step = 0
            while not ended.is_set():
                step += 1

                def once(step: int = step) -> None:
                    with store.write() as session:
                        metrics.append(session, taken[0], [metrics.Point("loss", step, float(step))])

                patiently(once, patience_s=60)
                written.append(step)

        writer = threading.Thread(target=report)
        writer.start()
        for round_ in range(3):
            number = len(written)
            deadline = time.monotonic() + 30
            while len(written) < number + 20:
                assert time.monotonic() < deadline and writer.is_alive()
                time.sleep(0.01)
            if round_ < 2:
                own_cluster.restart("immediate")
            else:
                own_cluster.terminate(url.rsplit("/", 1)[1].split("?")[0])
        time.sleep(0.2)
        ended.set()
        writer.join()
        with store.read() as session:
            assert metrics.series(session, 1)["loss"] == [(step, float(step)) for step in written]
        settled = Settlement(State.SUCCEEDED, exit_code=0)
        for _ in range(2):
            with store.write() as session:
                assert jobs.settle(session, taken[0], settled).state == State.SUCCEEDED
        store.dispose()

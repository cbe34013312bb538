"""Celery 5 with kombu-pgmq 0.2.0, unmodified: tasks run, fail, and are tried again, on both of its
transports, and what the transport can do beside that."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

HERE = Path(__file__).parent
DSN = os.environ["PGB_DSN"]


def remote(broker):
    """Celery's remote control, over a queue of its own and a fanout exchange."""
    from app import app

    for _ in range(20):
        answers = app.control.inspect(timeout=3).ping()
        if answers:
            return answers
    raise AssertionError(f"{broker}: no worker answered")


def tasks():
    from app import add, app, fails, flaky

    results = [add.delay(i, i) for i in range(20)]
    assert [r.get(timeout=60) for r in results] == [2 * i for i in range(20)]
    assert flaky.delay().get(timeout=60) == 2
    failed = fails.delay()
    try:
        failed.get(timeout=60)
        raise AssertionError("it did not fail")
    except ValueError:
        pass
    topic = add.apply_async((40, 2), queue="celery_topics", routing_key="news.sports")
    assert topic.get(timeout=60) == 42
    assert add.apply_async((1, 2), countdown=1).get(timeout=60) == 3
    remote(os.environ["TRANSPORT"])
    with app.connection() as connection:
        channel = connection.default_channel
        with connection.SimpleQueue("celery_simple") as queue:
            for i in range(3):
                queue.put({"i": i})
            assert queue.qsize() == 3
            first = queue.get(timeout=10)
            assert first.payload == {"i": 0}
            first.ack()
            second = queue.get(timeout=10)
            second.reject()
            third = queue.get(timeout=10)
            third.requeue()
            again = queue.get(timeout=20)
            assert again.payload == {"i": 2}, "after its visibility timeout"
            again.ack()
            assert queue.qsize() == 0
            queue.put({})
            assert channel.queue_purge("celery_simple") == 1
        channel.queue_delete("celery_simple")


def run(transport, pool):
    with tempfile.TemporaryDirectory() as results:
        env = dict(os.environ, TRANSPORT=transport, POOL=pool, RESULTS=results, PYTHONPATH=str(HERE))
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "app", "worker", "-l", "WARNING", "-c", "2",
             "--without-gossip", "--without-mingle"],
            cwd=results, env=env,
        )
        try:
            subprocess.run([sys.executable, __file__, "tasks"], env=env, check=True, timeout=240)
        finally:
            worker.terminate()
            worker.wait(timeout=60)


def main():
    if sys.argv[1:] == ["tasks"]:
        tasks()
        return
    with psycopg.connect(DSN, autocommit=True) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS pgmq CASCADE")
    for transport, pool in [("TransportPsycopg", "yes"), ("TransportPGMQ", "no")]:
        began = time.monotonic()
        run(transport, pool)
        print(f"celery over {transport}: {time.monotonic() - began:.0f} s")
    print("celery: every task")


main()

"""pgmq-sqlalchemy 0.2.0, unmodified: every call of its client, synchronous and asynchronous, and of its
operations on a session of the caller's.

Its partitioned queues ask for the extension pg_partman first, which this does without: where pg_partman
is not installed, that fails here as there.
"""

import asyncio
import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import DSN, Noting, refused  # noqa: E402

from pgmq_sqlalchemy import PGMQueue  # noqa: E402
from pgmq_sqlalchemy.operation import PGMQOperation  # noqa: E402
from sqlalchemy import text  # noqa: E402
from sqlalchemy.ext.asyncio import create_async_engine  # noqa: E402


class Calls:
    """The calls of one kind of client, by the same names."""

    def __init__(self, client, suffix):
        self.client, self.suffix = client, suffix

    def __getattr__(self, name):
        return getattr(self.client, name + self.suffix)


def all_of(q, name):
    short = dict(max_poll_seconds=1, poll_interval_ms=50)
    q.create_queue(name)
    q.create_queue(f"{name}_quick", unlogged=True)
    q.validate_queue_name(name)
    refused(q.create_partitioned_queue, f"{name}_parts")
    assert {name, f"{name}_quick"} <= set(q.list_queues())
    assert q.drop_queue(f"{name}_quick")
    first = q.send(name, {"n": 1})
    q.send(name, {"n": 2}, delay=3600)
    ids = q.send_batch(name, [{"n": 3}, {"n": 4}, {"n": 5}])
    q.send_batch(name, [{"n": 6}], delay=3600)
    got = q.read(name, 30)
    assert got.msg_id == first and got.read_ct == 1, got
    assert [m.msg_id for m in q.read_batch(name, batch_size=2, vt=30)] == ids[:2]
    polled = q.read_with_poll(name, vt=30, qty=5, **short)
    assert [m.msg_id for m in polled] == ids[2:]
    assert q.read(name, 30) is None and not q.read_with_poll(name, vt=30, qty=1, **short)
    assert q.set_vt(name, first, 0).msg_id == first
    assert q.pop(name).msg_id == first and q.pop(name) is None
    assert q.delete(name, ids[0]) and not q.delete(name, ids[0])
    assert q.archive(name, ids[1]) and not q.archive(name, ids[1])
    assert q.archive_batch(name, [ids[2], 999_999]) == [ids[2]]
    more = q.send_batch(name, [{}, {}])
    assert q.delete_batch(name, more) == more
    measured = q.metrics(name)
    assert measured.queue_length == 2 and measured.total_messages == 8, measured
    assert name in [m.queue_name for m in q.metrics_all()]
    assert q.purge(name) == 2
    assert q.drop_queue(name)


def operations(client, loop):
    """The operations by themselves: all of them exist with and without `_async`."""
    is_async = client.is_async
    suffix = "_async" if is_async else ""

    class Session:
        def __init__(self):
            self.called = set()

        def __getattr__(self, name):
            found = getattr(PGMQOperation, name + suffix)

            def call(*args, **kwargs):
                self.called.add(name + suffix)
                if not is_async:
                    with client.session_maker() as session:
                        return found(*args, session=session, commit=True, **kwargs)

                async def run():
                    async with client.session_maker() as session:
                        return await found(*args, session=session, commit=True, **kwargs)

                return loop.run_until_complete(run())

            return call

    session = Session()
    all_of(session, f"alchemy_operations{suffix}")
    session.check_pgmq_ext()
    refused(session.check_pg_partman_ext)
    public = {
        n for n, _ in inspect.getmembers(PGMQOperation, callable)
        if not n.startswith("_") and n.endswith("_async") == is_async
    }
    assert not public - session.called, public - session.called


def main():
    loop = asyncio.new_event_loop()
    url = DSN.replace("postgresql://", "postgresql+psycopg://", 1)
    first = PGMQueue(dsn=url)
    # This one makes no extension itself, as its documentation says it would.
    with first.engine.begin() as conn:
        conn.execute(text("CREATE EXTENSION IF NOT EXISTS pgmq CASCADE"))
    noted = Noting(first)
    all_of(noted, "alchemy_sync")
    sync_names = {n for n in noted.called}
    with first.session_maker() as session:
        noted.create_queue("alchemy_session")
        noted.send("alchemy_session", {}, session=session, commit=False)
        session.rollback()
    assert noted.metrics("alchemy_session").queue_length == 0
    operations(first, loop)
    # Over asyncpg, which says nothing of types, its `send` is ambiguous to pgmq 1.13, here as there.
    plain = Noting(PGMQueue(dsn=DSN.replace("postgresql://", "postgresql+asyncpg://", 1)), loop)
    plain.create_queue_async("alchemy_plain")
    refused(plain.send_async, "alchemy_plain", {}, code="42725")
    second = PGMQueue(engine=create_async_engine(url))
    later = Noting(second, loop)
    all_of(Calls(later, "_async"), "alchemy_async")
    operations(second, loop)
    later.called |= sync_names
    later.check()


main()
print("pgmq-sqlalchemy: every call")

"""tembo-pgmq-python 0.10.0, unmodified: every call of its two clients.

It was written for an older pgmq and reads rows by place: in 1.13 the fourth column is last_read_at and
the fifth vt, so that its `message` is a time, and the asynchronous one fails on it, here as there. Its partitioned queues are made with a
function that pgmq no longer has.
"""

import asyncio
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import URL, Noting, refused  # noqa: E402

import tembo_pgmq_python as tembo  # noqa: E402
from tembo_pgmq_python.async_queue import PGMQueue as AsyncPGMQueue  # noqa: E402

WHERE = dict(
    host=URL.hostname, port=str(URL.port), database=URL.path[1:], username=URL.username, password="x"
)


def all_of(q, name, is_async=False):
    q.create_queue(name)
    q.create_queue(f"{name}_quick", unlogged=True)
    refused(q.create_partitioned_queue, f"{name}_parts", code="42883")
    q.validate_queue_name(name)
    assert {name, f"{name}_quick"} <= set(q.list_queues())
    assert q.drop_queue(f"{name}_quick")
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    first = q.send(name, {"n": 1})
    q.send(name, {"n": 2}, delay=3600)
    q.send(name, {"n": 3}, tz=later)
    ids = q.send_batch(name, [{"n": 4}, {"n": 5}, {"n": 6}])
    assert len(ids) == 3
    q.send_batch(name, [{"n": 7}], delay=3600)
    if is_async:
        # Its statement says that the time is a number.
        refused(q.send_batch, name, [{"n": 8}], tz=later)
        q.send_batch(name, [{"n": 8}], delay=3600)
    else:
        q.send_batch(name, [{"n": 8}], tz=later)
    if is_async:
        # It takes the fifth column for JSON.
        for call in (q.read, q.read_batch, q.read_with_poll, q.pop):
            refused(call, name)
        refused(q.set_vt, name, first, 0)
        assert q.delete(name, first)
    else:
        reads(q, name, first, ids)
    assert q.delete(name, ids[0]) and not q.delete(name, ids[0])
    assert q.archive(name, ids[1]) and not q.archive(name, ids[1])
    assert q.archive_batch(name, [ids[2], 999_999]) == [ids[2]]
    more = q.send_batch(name, [{}, {}])
    assert q.delete_batch(name, more) == more
    measured = q.metrics(name)
    # The refused one had taken no id.
    assert measured.queue_length == 4 and measured.total_messages == 10, measured
    assert name in [m.queue_name for m in q.metrics_all()]
    assert q.purge(name) == 4
    q.detach_archive(name)
    assert q.drop_queue(name)
    q.check(but={"init"})


def reads(q, name, first, ids):
    got = q.read(name, vt=20)
    assert got.msg_id == first and got.read_ct == 1
    assert [m.msg_id for m in q.read_batch(name, vt=20, batch_size=2)] == ids[:2]
    polled = q.read_with_poll(name, vt=20, qty=5, max_poll_seconds=1, poll_interval_ms=50)
    assert [m.msg_id for m in polled] == ids[2:]
    assert q.read(name) is None
    assert q.set_vt(name, first, 0).msg_id == first
    assert q.pop(name).msg_id == first


def main():
    all_of(Noting(tembo.PGMQueue(**WHERE)), "tembo_sync")
    loop = asyncio.new_event_loop()
    queue = Noting(AsyncPGMQueue(**WHERE), loop)
    queue.init()
    all_of(queue, "tembo_async", is_async=True)


main()
print("tembo-pgmq-python: every call")

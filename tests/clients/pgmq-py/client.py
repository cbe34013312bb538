"""Python's pgmq 1.1.4, unmodified: every call of its four clients, two of them asynchronous."""

import asyncio
import sys
import threading
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import DSN, Noting, refused  # noqa: E402

import pgmq  # noqa: E402
from pgmq.notify_listener import AsyncNotificationListener, SyncNotificationListener  # noqa: E402

warnings.simplefilter("ignore")


def later(seconds):
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def queues(q, name):
    q.create_queue(name)
    q.create_queue(name)
    q.create_queue(f"{name}_quick", unlogged=True)
    q.create_partitioned_queue(f"{name}_parts", 10000, 100000)
    listed = {r.queue_name: r for r in q.list_queues()}
    assert listed[f"{name}_quick"].is_unlogged and listed[f"{name}_parts"].is_partitioned
    assert not listed[name].is_unlogged and not listed[name].is_partitioned
    assert q.validate_queue_name(name)
    refused(q.validate_queue_name, "x" * 48)
    q.convert_archive_partitioned(name, "1 day", "1 month")
    q.detach_archive(name)
    q.create_fifo_index(name)
    q.create_fifo_indexes_all()
    assert q.drop_queue(f"{name}_quick") and q.drop_queue(f"{name}_parts")
    assert not q.drop_queue(f"{name}_none")


def messages(q, name):
    first = q.send(name, {"n": 1})
    q.send(name, {"n": 2}, headers={"h": 2})
    q.send(name, {"n": 3}, delay=3600)
    q.send(name, {"n": 4}, delay=later(3600))
    q.send(name, {"n": 5}, headers={"h": 5}, delay=3600)
    q.send(name, {"n": 6}, headers={"h": 6}, delay=later(-1))
    ids = q.send_batch(name, [{"n": 7}, {"n": 8}])
    assert ids == sorted(ids) and len(ids) == 2
    q.send_batch(name, [{"n": 9}], headers=[{"h": 9}])
    q.send_batch(name, [{"n": 10}], delay=3600)
    q.send_batch(name, [{"n": 11}], delay=later(3600))
    q.send_batch(name, [{"n": 12}], headers=[{"h": 12}], delay=3600)
    q.send_batch(name, [{"n": 13}], headers=[{"h": 13}], delay=later(3600))
    got = q.read(name, vt=30)
    assert got.msg_id == first and got.read_ct == 1 and got.message == {"n": 1}
    assert got.vt > datetime.now(timezone.utc) and got.headers is None
    assert [m.message["n"] for m in q.read(name, vt=30, qty=2)] == [2, 6]
    assert q.read(name, vt=30, conditional={"n": 8}).message == {"n": 8}
    assert [m.message["n"] for m in q.read_batch(name, vt=30, batch_size=5)] == [7, 9]
    assert q.read(name) is None
    back = q.set_vt(name, first, 0)
    assert back.msg_id == first and back.read_ct == 1
    assert q.set_vt(name, first, later(-5)).msg_id == first
    assert [m.msg_id for m in q.set_vt(name, ids, 100)] == ids
    assert [m.msg_id for m in q.set_vt(name, ids, later(-5))] == ids
    polled = q.read_with_poll(name, vt=30, qty=2, max_poll_seconds=2, poll_interval_ms=50)
    assert [m.message["n"] for m in polled] == [1, 7] and polled[0].read_ct == 2
    polled = q.read_with_poll(name, vt=30, max_poll_seconds=1, conditional={"n": 8})
    assert [m.message["n"] for m in polled] == [8]
    assert q.read_with_poll(name, vt=30, max_poll_seconds=1) == []
    assert q.archive(name, first) and not q.archive(name, first)
    assert q.archive_batch(name, ids + [999_999]) == ids
    new = [q.send(name, {"pop": i}) for i in range(4)]
    assert q.pop(name).msg_id == new[0]
    assert [m.msg_id for m in q.pop(name, qty=2)] == new[1:3]
    assert q.delete(name, new[3]) and not q.delete(name, new[3])
    more = q.send_batch(name, [{}, {}])
    assert q.delete_batch(name, more + [999_999]) == more
    measured = q.metrics(name)
    assert measured.queue_name == name and measured.queue_length == 10
    assert measured.total_messages == 19, measured
    assert name in [m.queue_name for m in q.metrics_all()]
    assert q.purge(name) == 10 and q.metrics(name).queue_length == 0
    refused(q.send, f"{name}_none", {}, code="42P01")


def groups(q, name):
    heads = [{"x-pgmq-group": g} for g in "aabbc"]
    ids = q.send_batch(name, [{"i": i} for i in range(5)], headers=heads)
    assert [m.msg_id for m in q.read_grouped(name, vt=30, qty=3)] == ids[:3]
    q.set_vt(name, ids[:3], 0)
    turns = [m.msg_id for m in q.read_grouped_rr(name, vt=30, qty=4)]
    assert turns == [ids[0], ids[2], ids[4], ids[1]], turns
    assert q.read_grouped_rr(name, vt=30, qty=4) == []
    q.set_vt(name, ids, 0)
    polled = q.read_grouped_with_poll(name, 30, 2, max_poll_seconds=1, poll_interval_ms=50)
    assert [m.msg_id for m in polled] == ids[:2]
    polled = q.read_grouped_rr_with_poll(name, 30, 9, max_poll_seconds=1, poll_interval_ms=50)
    assert [m.msg_id for m in polled] == [ids[2], ids[4], ids[3]]
    q.purge(name)


def topics(q, name):
    q.bind_topic(f"{name}.*", name)
    assert [b.queue_name for b in q.list_topic_bindings(name)] == [name]
    assert f"{name}.*" in [b.pattern for b in q.list_topic_bindings()]
    assert [r.queue_name for r in q.test_routing(f"{name}.x")] == [name]
    assert q.send_topic(f"{name}.x", {"t": 1}) == 1
    assert q.send_topic(f"{name}.x", {"t": 2}, headers={"h": 1}, delay=0) == 1
    assert q.send_topic(f"{name}.x", {"t": 3}, delay=5) == 1
    assert q.send_topic(f"{name}.x.y", {"t": 4}) == 0
    for how in [{}, {"headers": [{}]}, {"delay": 0}, {"delay": later(5)},
                {"headers": [{}], "delay": 0}, {"headers": [{}], "delay": later(5)}]:
        sent = q.send_batch_topic(f"{name}.x", [{"t": 5}], **how)
        assert [r.queue_name for r in sent] == [name]
    assert q.validate_routing_key("a.b") and not q.validate_routing_key("a..b")
    assert q.validate_topic_pattern("a.#") and not q.validate_topic_pattern("a.##")
    assert q.unbind_topic(f"{name}.*", name) and not q.unbind_topic(f"{name}.*", name)


def notifications(q, name):
    q.enable_notify(name, throttle_interval_ms=0)
    q.update_notify(name, 1)
    assert [t.throttle_interval_ms for t in q.list_notify_throttles() if t.queue_name == name] == [1]
    heard = threading.Event()
    listener = SyncNotificationListener(q.client)
    ear = threading.Thread(target=listener.listen, args=(name, lambda _: heard.set(), 20), daemon=True)
    ear.start()
    for _ in range(100):
        q.send(name, {})
        if heard.wait(0.1):
            break
    assert heard.is_set(), "no notification"
    listener.stop()
    q.disable_notify(name)
    assert name not in [t.queue_name for t in q.list_notify_throttles()]


def listens(loop, q, name):
    """The asynchronous listener."""
    async def wait():
        heard = asyncio.Event()
        listener = AsyncNotificationListener(q.client)
        ear = asyncio.create_task(listener.listen(name, lambda _: heard.set()))
        for _ in range(100):
            await q.client.send(name, {})
            try:
                await asyncio.wait_for(heard.wait(), 0.1)
                break
            except asyncio.TimeoutError:
                pass
        assert heard.is_set(), "no notification"
        listener.stop()
        ear.cancel()

    q.enable_notify(name, 0)
    loop.run_until_complete(wait())
    q.disable_notify(name)


def all_of(q, name, but):
    for part in (queues, messages, groups, topics, notifications):
        part(q, name)
    assert q.drop_queue(name)
    q.check(but=but)


def main():
    assert pgmq.get_embedded_install_sql() and pgmq.get_embedded_sql_version()
    loop = asyncio.new_event_loop()
    sync = Noting(pgmq.SyncPGMQueue(conn_string=DSN))
    all_of(sync, "py_sync", {"close"})
    # A transaction of the caller's, rolled back.
    sync.create_queue("py_rolled")
    with sync.client.pool.connection() as conn:
        with conn.transaction(force_rollback=True):
            sync.send("py_rolled", {}, conn=conn)
    assert sync.metrics("py_rolled").queue_length == 0
    sync.close()
    mapped = Noting(pgmq.SQLAlchemyPGMQueue(conn_string=DSN))
    all_of(mapped, "py_mapped", {"dispose", "session"})
    mapped.session().close()
    mapped.dispose()
    queue = Noting(pgmq.AsyncPGMQueue(conn_string=DSN), loop)
    queue.init()
    queue.create_queue("py_heard")
    listens(loop, queue, "py_heard")
    all_of(queue, "py_async", {"close"})
    queue.close()
    both = Noting(pgmq.SQLAlchemyAsyncPGMQueue(conn_string=DSN), loop)
    if hasattr(both.client, "init"):
        both.init()
    all_of(both, "py_both", {"dispose", "session", "close", "init"})


main()
print("pgmq-py: every call")

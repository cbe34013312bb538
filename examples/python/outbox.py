"""The outbox and its worker in Python, with psycopg 3.

    pip install -r requirements.txt
    PGB_DSN=postgresql://… python outbox.py

Ends by itself when its messages are done; exits non-zero if something is wrong.
"""

import os
import sys
from datetime import timedelta

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

QUEUE = "example_python"


def main():
    dsn = os.environ.get("PGB_DSN") or os.environ.get("DATABASE_URL")
    if not dsn:
        sys.exit("set PGB_DSN to a database that has pg_broker")
    # autocommit: a statement stands alone, unless `with db.transaction()` says otherwise.
    # A worker wants that: mq.wait refuses to sleep inside a transaction.
    with psycopg.connect(dsn, autocommit=True, row_factory=namedtuple_row) as db:
        set_up(db)
        take_orders(db)
        work(db)
        check(db)
        clean_up(db)


def set_up(db):
    clean_up(db)
    db.execute("CREATE SCHEMA example_python")
    db.execute(
        "CREATE TABLE example_python.orders"
        " (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text)"
    )
    db.execute("CREATE TABLE example_python.shipments (order_id bigint PRIMARY KEY, worker text)")
    # A timedelta is an interval, a list of them is an interval[]. A message that fails waits
    # 0.3 s, then 1 s; the fifth failure moves it to example_python_dead, made along with it.
    db.execute(
        "SELECT mq.create_queue(%s, visibility => %s, max_failures => %s, backoff => %s)",
        (QUEUE, timedelta(seconds=30), 5, [timedelta(seconds=0.3), timedelta(seconds=1)]),
    )


def take_orders(db):
    """The outbox: the order and its event are one transaction. Both are there, or neither."""
    order_something(db, "tea")
    order_something(db, "honey", headers={"fails": 1})
    # `delay`, here by way of make_interval, the way for a number of seconds in any language.
    with db.transaction():
        order = insert_order(db, "lemons")
        db.execute(
            "SELECT mq.send(%s, %s, delay => make_interval(secs => %s))",
            (QUEUE, Jsonb({"order": order}), 0.5),
        )
    try:
        order_something(db, "a yacht", card_is_good=False)
    except ValueError as error:
        print(f"{error}: order and event are rolled back")


def order_something(db, item, headers=None, card_is_good=True):
    with db.transaction():
        order = insert_order(db, item)
        # Parameters need no casts: no function of mq has a second one of the same name. A None
        # is the default.
        message = db.execute(
            "SELECT mq.send(%s, %s, headers => %s)",
            (QUEUE, Jsonb({"order": order}), Jsonb(headers) if headers else None),
        ).fetchone()[0]
        if not card_is_good:
            raise ValueError(f"the card for {item} was declined")
    print(f"order {order} is committed, its event is message {message}")


def insert_order(db, item):
    sql = "INSERT INTO example_python.orders (item) VALUES (%s) RETURNING id"
    return db.execute(sql, (item,)).fetchone().id


def work(db):
    """The worker loop. A real one would have no end; this one stops after 2 idle seconds."""
    while True:
        # Up to 10 messages, each ours for 30 seconds (the queue's visibility).
        messages = db.execute("SELECT * FROM mq.read(%s, qty => %s)", (QUEUE, 10)).fetchall()
        for message in messages:
            handle(db, message)
        if not messages:
            # Sleeps until a message may be ready: at a sender's commit, or at the end of a
            # delay or a backoff.
            idle = timedelta(seconds=2)
            if not db.execute("CALL mq.wait(%s, %s)", (QUEUE, idle)).fetchone().ready:
                return


def handle(db, message):
    order = message.body["order"]
    try:
        with db.transaction():
            ship(db, message)
            # The effect and the ack are one transaction: the order ships exactly once. The
            # receipt names this hand-out; had our lease ended and another worker got the
            # message, this would be False: then the shipment is rolled back, it is the other's.
            done = db.execute("SELECT mq.ack(%s, %s, %s)", (QUEUE, message.id, message.receipt))
            ours = done.fetchone().ack
            if not ours:
                raise psycopg.Rollback
        print(f"order {order} is shipped" if ours else f"order {order} has gone to another worker")
    except ShippingError as error:
        # Failed: back to the queue, to be tried again after its backoff. The reason stays with
        # the message, as last_error.
        db.execute(
            "SELECT mq.nack(%s, %s, %s, reason => %s)",
            (QUEUE, message.id, message.receipt, str(error)),
        )
        print(f"order {order} failed, it will be tried again: {error}")


class ShippingError(Exception):
    pass


def ship(db, message):
    if message.failures < (message.headers or {}).get("fails", 0):
        raise ShippingError("no carrier answers")
    sql = "INSERT INTO example_python.shipments VALUES (%s, 'python')"
    db.execute(sql, (message.body["order"],))


def check(db):
    def column(sql):
        return [row[0] for row in db.execute(sql)]

    orders = column("SELECT id FROM example_python.orders ORDER BY id")
    shipped = column("SELECT order_id FROM example_python.shipments ORDER BY order_id")
    left = column("SELECT id FROM mq.example_python UNION ALL SELECT id FROM mq.example_python_dead")
    if len(orders) != 3 or orders != shipped or left:
        sys.exit(f"wrong: orders {orders}, shipped {shipped}, messages left {left}")
    print("every order is shipped, the queue is empty")


def clean_up(db):
    db.execute("DROP SCHEMA IF EXISTS example_python CASCADE")
    # The dead-letter queue goes last: it cannot while a queue names it.
    for queue in (QUEUE, QUEUE + "_dead"):
        db.execute("SELECT mq.drop_queue(%s, if_exists => true)", (queue,))


if __name__ == "__main__":
    main()

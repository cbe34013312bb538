"""The tasks of the test of Celery, and where its broker is."""

import os

from celery import Celery
from kombu import Exchange, Queue

dsn = os.environ["PGB_DSN"].split("://", 1)[1]
app = Celery("drop_in", backend="file://" + os.environ["RESULTS"])
app.conf.update(
    broker_url="pgmq://" + dsn,
    broker_transport="kombu_pgmq.transport:" + os.environ["TRANSPORT"],
    broker_transport_options={"visibility_timeout": 5, "pool": os.environ["POOL"] == "yes"},
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_default_queue="celery_tasks",
    broker_connection_retry_on_startup=True,
    task_queues=[
        Queue("celery_tasks", Exchange("celery_tasks", type="direct"), routing_key="celery_tasks"),
        Queue("celery_topics", Exchange("celery_topics", type="topic"), routing_key="news.*"),
    ],
)


@app.task
def add(a, b):
    return a + b


@app.task(bind=True, max_retries=3)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def fails():
    raise ValueError("as it should")

"""The Celery app of `task per order`: the shop's own, told to keep its connection to PostgreSQL from task to task.

Celery's default is a new one for each task, which few notice; it would make the baseline several times slower.
"""

from shop.celery import app

#: Tasks on one connection: more than a run has.
app.conf["CELERY_DB_REUSE_MAX"] = 1_000_000

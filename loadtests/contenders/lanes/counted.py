"""A Django application, as it is, and a byte at the end of a file for each SQL statement that it sends.

COUNTED names the application as `module:name`, SQL_FILE the file. Any number of processes may share it.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

from django.db.backends.signals import connection_created

_module, _, _name = os.environ["COUNTED"].partition(":")
_file = os.open(os.environ["SQL_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _count(execute: Callable[..., Any], *statement: Any) -> Any:
    os.write(_file, b".")
    return execute(*statement)


def _watch(connection: Any, **_: Any) -> None:
    if _count not in connection.execute_wrappers:
        connection.execute_wrappers.append(_count)


connection_created.connect(_watch)
application = getattr(importlib.import_module(_module), _name)

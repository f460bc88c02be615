"""What it looks like when PostgreSQL is away, or every connection to it is taken."""

from django.db import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)

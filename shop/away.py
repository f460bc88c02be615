"""What it looks like when PostgreSQL is away, every connection to it is taken, or others ask it and hear nothing."""

from django.db import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

from resilience.cache.reading import NobodyLoaded

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout, NobodyLoaded)

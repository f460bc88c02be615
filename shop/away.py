"""What it looks like when PostgreSQL is away, every connection to it is taken, or others ask it and hear nothing; and
what a guard, or the end of the time, refuses."""

from django.db import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

from resilience.cache.reading import NobodyLoaded
from resilience.refused import Refused

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout, NobodyLoaded, Refused)

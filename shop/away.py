"""What it looks like when PostgreSQL is away or takes no writes (`InternalError`, of a standby that nobody promoted),
every connection to it is taken, or others ask it and hear nothing; and what a guard or the end of the time refuses."""

from django.db import InterfaceError, InternalError, OperationalError
from psycopg_pool import PoolTimeout

from resilience.cache.reading import NobodyLoaded
from resilience.refused import Refused

DATABASE_AWAY = (OperationalError, InterfaceError, InternalError, PoolTimeout, NobodyLoaded, Refused)

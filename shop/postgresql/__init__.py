"""Django's engine for PostgreSQL, with a pool that serves the first who asks after PostgreSQL was away."""

"""What the hot requests cost, from outside: a server on one processor; wrk, Redis and PostgreSQL on another."""

"""The truth about units: held once, sold once, never lost.

Front doors: `stock` (counters), `reservations` (hold and end), `outbox` (record in PostgreSQL), `effects` (tell
Redis), `reconciliation` (compare the two) and `models`. The one invariant, in Redis and in PostgreSQL alike:
quantity = available + held + sold.
"""

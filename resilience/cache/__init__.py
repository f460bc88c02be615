"""Cache tiers: process memory, memcached, Redis."""

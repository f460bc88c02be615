"""The cache tiers, each contender with keys that nobody else has."""

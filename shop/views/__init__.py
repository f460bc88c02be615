"""Requests in, answers out. What happens in between is decided by the modules of the shop."""

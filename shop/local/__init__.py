"""What `make up` needs on one machine: servers found and started, processes watched. Never imported in production.

Nothing here imports Django: before there are servers there are no settings. The way in is `up.main`.
"""

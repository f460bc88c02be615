"""What people write: two shops of a page each, in the way of good tutorials, to measure ours beside them.

They are kinder to themselves than most: who buys is told by a signed cookie and not by a session in the database,
connections are kept, and nothing is rendered after a click.
"""

"""What all refusals have in common, whoever refuses."""


class Refused(Exception):
    """Somebody said no on purpose, or the time is over: asking again at once is of no use, and `retry` never does."""

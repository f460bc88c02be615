"""The two ways in which a start can fail."""


class Refusal(Exception):
    """The caller has to change something first. The message is the one line for stderr; the exit status is 2."""


class Broken(Exception):
    """A process did not start, did not become ready, or died too often. The message carries the end of its log."""

"""What a shared tier says when it is away."""


class TierAway(Exception):
    """It could not be asked, or did not answer in time. A cache may slow a page down, never take it down."""

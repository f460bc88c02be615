"""What the shop gives up, and at which level. Which one it is `level_watch` finds out.

| feature | goes beyond | then shoppers and staff see |
|---|---|---|
| how many are ahead | NORMAL | on the waiting page that the order is being written down, without a number |
| info lines | NORMAL | in the log only warnings, audit lines, and all of whoever is flagged |
| what is mine | BROWNOUT | the sale's page as strangers do; Buy still answers REPEATED to its owner |
| new accounts | BROWNOUT | "back soon"; who has an account signs in and buys |
| search in long lists | BROWNOUT | orders, payments and reservations in the admin without a box to search in |

Beyond NORMAL pages are kept five times as long, live counters as long as the interface promises, and polls come at half
the pace, beyond BROWNOUT at a quarter. Live counters stay everywhere: all who look share one trip to Redis, and a list
without them would call open what is sold out. What the door does at SHED and STATIC is the door's business.
"""

from resilience import degradation
from resilience.degradation import Feature, Level

AHEAD = Feature("how many are ahead", until=Level.NORMAL)
INFO_LINES = Feature("info lines", until=Level.NORMAL)
MINE = Feature("what is mine", until=Level.BROWNOUT)
SIGN_UP = Feature("new accounts", until=Level.BROWNOUT)
ADMIN_SEARCH = Feature("search in long lists", until=Level.BROWNOUT)

#: Times as long that cached values are fresh, and stale ones serve, beyond NORMAL.
STRETCH = 5.0
#: Times as long until a page asks again.
POLL_TIMES = {Level.NORMAL: 1, Level.BROWNOUT: 2, Level.SHED: 4, Level.STATIC: 4}
#: Seconds after which it is worth asking again for a feature that is off: no level ends earlier.
BACK_SECONDS = 10


def stretched(seconds: float, times: float = STRETCH) -> float:
    """How long a value is good for at this level."""
    return seconds if degradation.current.situation.level == Level.NORMAL else seconds * times


def slower(pause: int) -> int:
    """How long somebody waits before the next question at this level; in the unit of `pause`."""
    return pause * POLL_TIMES[degradation.current.situation.level]

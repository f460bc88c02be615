"""Who gets a processor first when all are busy: the lane that sells, before pages and what is written down behind it.

Linux shares its processors among sessions before it shares them among the processes of one (autogroup in sched(7)), and
each process of ours is a session. So a session is asked to give way as well as its processes, which is all that counts
elsewhere.

How far, is said as nice(1) has it: 5 is a third of the time of whoever does not give way, 10 a ninth, when there is not
enough for both; all that it wants when there is. Nobody gives way before it is ready: whoever comes back in the middle
of a rush is missed, and needs a second or two of a processor where a ninth of one would take ten.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

#: The nicest that there is.
_NICEST = 19
#: Seconds for which Linux refuses to change another session (EAGAIN), and how often we ask.
_BUSY_SECONDS, _ASKED_AT_MOST = 0.1, 5


def give_way(pid: int, niceness: int) -> None:
    """Let others go before this leader of a session, and before all that it has started or will start. Never raises: a
    process that does not give way is no reason to have none."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PGRP, pid, min(_NICEST, os.getpriority(os.PRIO_PROCESS, 0) + niceness))
    autogroup = Path(f"/proc/{pid}/autogroup")
    for _ in range(_ASKED_AT_MOST):
        try:
            autogroup.write_text(str(niceness))
        except BlockingIOError:
            time.sleep(_BUSY_SECONDS)
        except OSError:  # no Linux, or one without sessions
            return
        else:
            return

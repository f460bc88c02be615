"""A child for the supervisor's tests: it writes into a diary what happens to it. Needs nothing but Python.

    witness.py NAME DIARY [HABIT ...]

Habits: `stubborn` takes no notice of signals; `lingers` needs a moment to end; `parent` has a stubborn child of its
own; `chatty` prints thirty lines; `dies` ends at once with status 3; `ready=FILE` touches the file;
`late=FILE` never does.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

name, diary, *habits = sys.argv[1:]

#: Seconds that one who lingers needs: long enough to be overtaken by one who does not wait for it.
LINGER_SECONDS = 0.2
#: Seconds after which a signal is noticed at the latest.
LOOK_SECONDS = 0.05


def note(word: str) -> None:
    with Path(diary).open("a") as file:
        file.write(f"{name} {word} {os.getpid()}\n")


def on_signal(number: int, _frame: FrameType | None) -> None:
    note(signal.Signals(number).name)
    if "stubborn" in habits:
        return
    if "lingers" in habits:
        time.sleep(LINGER_SECONDS)
    note("ended")
    os._exit(0)


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, on_signal)

if "parent" in habits:
    subprocess.Popen([sys.executable, "-IS", __file__, f"{name}-child", diary, "stubborn"])
if "chatty" in habits:
    os.write(1, "".join(f"line {number}\n" for number in range(1, 31)).encode())
note("started")
if "dies" in habits:
    sys.exit(3)
for habit in habits:
    if habit.startswith("ready="):
        Path(habit.removeprefix("ready=")).touch()
while True:
    time.sleep(LOOK_SECONDS)  # not `signal.pause`, which sleeps on when a signal comes just before it

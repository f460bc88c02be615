"""The comparison is worth its time: each of these mistakes in the Lua scripts shows. Runs with SOAK=1 only.

By the stories alone, so that nothing here is left to luck: the machine found most of them too, within ten examples.
"""

import hashlib
import os

import pytest
import redis
from django.db import DatabaseError

from inventory import _commit, effects, outbox, stock
from inventory._scripts import Script
from inventory.outcomes import InventoryUnavailable
from tests.invariants.test_model import STORIES, play

#: How it shows: the worlds differ, a script or a constraint breaks.
NOTICED = (AssertionError, redis.RedisError, InventoryUnavailable, DatabaseError)

RESERVE, SETTLE = _commit._reserve, effects._settle
RECORD, ACKNOWLEDGE, TRIM = outbox._record, outbox._acknowledge, outbox._trim
CHANGE, INSTALL = stock._change, stock._install

#: What is wrong -> the script, what stands there, and what the mistaken script says instead.
MUTANTS: dict[str, tuple[Script, str, str]] = {
    "the door is judged before the reservation is known": (
        RESERVE,
        "    local record = taken_now",
        "    if door then return door end\n    local record = taken_now",
    ),
    "the window is judged before the reservation is known": (
        RESERVE,
        "    local record = taken_now",
        "    if window then return window end\n    local record = taken_now",
    ),
    "sold out is judged before the limit": (
        RESERVE,
        "    local owned, ids = standing_of(i)\n",
        "    local owned, ids = standing_of(i)\n    if units > available then return 'SOLD_OUT' end\n",
    ),
    "a unit too few for each buyer": (RESERVE, "if owned + units > limit", "if owned + units >= limit"),
    "the last unit is never sold": (RESERVE, "if units > available", "if units >= available"),
    "a unit too many is sold": (RESERVE, "if units > available", "if units > available + 1"),
    "a batch forgets whom it has served": (RESERVE, "taken_now[reservation] or records[i]", "records[i]"),
    "a batch forgets its buyers' units": (RESERVE, "stands_now[buyer_ids[i]] or standings[i]", "standings[i]"),
    "a buyer's earlier units are forgotten": (RESERVE, "if not standing then", "if not stands_now[buyer_ids[i]] then"),
    "a buyer has what another one has": (RESERVE, "or standings[i]", "or standings[1]"),
    "a wish finds the record of another one": (RESERVE, "or records[i]", "or records[1]"),
    "a batch forgets the units it gives": (RESERVE, "available = available - units", ""),
    "units stay available": (RESERVE, "'available', digits(available), ", ""),
    "units are not counted as taken": (RESERVE, "digits((known[10] or 0) + units_granted)", "known[10]"),
    "units are not held": (RESERVE, "digits(known[2] + units_granted)", "known[2]"),
    "the drain is not told": (RESERVE, "redis.call('XADD', events_key, '*'", "redis.call('ECHO', 'x') local _ = ('x'"),
    "waiting events are not counted": (RESERVE, ", 'waiting', digits(waiting + #granted)", ""),
    "an event too few may wait": (RESERVE, "waiting + #granted >= most", "waiting + #granted + 1 >= most"),
    "numbers are what Lua takes for numbers": (RESERVE, "string.find(text, '^[1-9]%d*$')", "tonumber(text)"),
    "everybody's ticket finds a reservation": (RESERVE, "'^%a+:' .. buyer .. ':'", "'^%a+:%d+:'"),
    "any units find a reservation": (RESERVE, "':' .. units_text .. '$'", "':%d+$'"),
    "late money needs an open sale": (RESERVE, "if window and reason ~= 'late' then", "if window then"),
    "late money passes a paused sale": (
        RESERVE,
        "if door then return door end",
        "if door and reason ~= 'late' then return door end",
    ),
    "it sells before it opens": (RESERVE, "if now_ms < tonumber(known[6])", "if false"),
    "it sells after it closes": (RESERVE, "or now_ms >= tonumber(known[7])", ""),
    "an effect of another filling counts": (SETTLE, "if effect_epoch ~= epoch then return 'STALE' end", ""),
    "a hold ends twice": (SETTLE, "if state ~= 'held' and state ~= 'placed'", "if not state"),
    "a placed hold never ends": (SETTLE, "if state ~= 'held' and state ~= 'placed'", "if state ~= 'held'"),
    "a limit is used up for ever": (SETTLE, "take_from(buyer, reservation, tonumber(units))", ""),
    "what is released is gone": (SETTLE, "redis.call('HINCRBY', KEYS[1], 'available', units)", ""),
    "what is paid goes back on sale": (SETTLE, "if ending == 'paid'", "if ending == 'nothing'"),
    "a status goes back": (RECORD, "'^held:(%d+):(%d+)$'", "'^%a+:(%d+):(%d+)'"),
    "a recorded event waits for ever": (ACKNOWLEDGE, "if open > 0 and", "if false and"),
    "acknowledged events stay open": (ACKNOWLEDGE, "redis.call('XACK', KEYS[2], 'record', unpack(ARGV))", "#ARGV"),
    "open events are trimmed": (TRIM, "if open[1] > 0", "if false"),
    "unread events are trimmed": (
        TRIM,
        "limit = earlier(limit, string.format('%.0f-%.0f', read_ms, read_seq + 1))",
        "",
    ),
    "a stream that nobody reads is trimmed": (TRIM, "if #groups == 0", "if false"),
    "a change is made twice": (CHANGE, "if made_before then return made_before end", ""),
    "held units are taken away": (CHANGE, "math.max(tonumber(units), -tonumber(here[2])) + 0", "tonumber(units)"),
    "a change counts again in a new filling": (CHANGE, "if here[1] ~= epoch then return 'STALE' end", ""),
    "taking nothing breaks": (CHANGE, "-tonumber(here[2])) + 0", "-tonumber(here[2]))"),
    "an offer starts anew when its window moves": (INSTALL, "if not present then", "if true then"),
    "a lost offer is made up": (INSTALL, "if not present and make ~= 'MAKE'", "if false"),
    "the limit never changes": (INSTALL, "'limit', limit, 'state', state", "'state', state"),
}


@pytest.mark.skipif("SOAK" not in os.environ, reason="half a minute: SOAK=1 asks for it")
@pytest.mark.usefixtures("small_world")
@pytest.mark.parametrize("mistake", MUTANTS)
def test_a_story_shows_a_mistake(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one of them the script and the model disagree, or the script breaks."""
    script, right, wrong = MUTANTS[mistake]
    assert right in script.source
    mutated = script.source.replace(right, wrong)
    # The digest first: pytest reads what it will put back, and the script would make that out of the mistaken source.
    monkeypatch.setattr(script, "_digest", hashlib.sha1(mutated.encode(), usedforsecurity=False).hexdigest())
    monkeypatch.setattr(script, "source", mutated)

    with pytest.raises(NOTICED):
        play_all()


def play_all() -> None:
    for story in STORIES:
        play(story)

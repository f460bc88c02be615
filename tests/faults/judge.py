"""What a round must leave behind: every promise made to a client kept, by what both stores say and the clients saw."""

from collections import Counter
from collections.abc import Iterator
from itertools import takewhile

from tests.faults.history import History, Story
from tests.faults.world import World

#: PostgreSQL's word for a reservation -> what its buyer reads.
HEARS = {"held": "placed", "confirmed": "paid", "released": "released", "expired": "expired", "refused": "refused"}

#: Everything that may still be on its way between the stores, as one number.
_UNDER_WAY = """
    SELECT (SELECT count(*) FROM inventory_effect WHERE stock_id = s.id AND applied_at IS NULL)
         + (SELECT count(*) FROM inventory_stockchange WHERE stock_id = s.id AND state = 'pending')
         + (SELECT count(*) FROM inventory_claim WHERE stock_id = s.id AND settled_at IS NULL)
         + (SELECT count(*) FROM shop_payment p JOIN shop_order o ON o.id = p.order_id
             WHERE o.offer_id = s.id AND p.state = 'late')
         + (SELECT count(*) FROM inventory_reservation
             WHERE stock_id = s.id AND state = 'held' AND expires_at < now() + interval '1 minute')
         + (s.recovering_until IS NOT NULL)::int
      FROM inventory_stock s WHERE s.id = %s
"""


def is_quiet(world: World, offer_id: int) -> bool:
    """Nothing is on its way between the stores any more, and nothing will happen by itself."""
    [(under_way,)] = world.rows(_UNDER_WAY, offer_id)
    client, keys = world.stock_redis, f"{{o:{offer_id}}}"
    if under_way or not client.exists(f"{keys}:units"):
        return False
    open_events = client.xpending(f"{keys}:events", "record")["pending"]
    return not open_events and client.hget(f"{keys}:units", "waiting") == "0"


def complaints(world: World, offer_id: int, limit: int, history: History, heard: dict[str, str]) -> list[str]:
    """Everything that is wrong after a round that has become quiet."""
    rows = {
        pk: (state, buyer_id, units)
        for pk, state, buyer_id, units in world.rows(
            "SELECT id, state, buyer_id, units FROM inventory_reservation WHERE stock_id = %s AND reason = ''", offer_id
        )
    }
    return [
        *history.broken,
        *_unkept(history, rows, heard),
        *_unasked(history, rows),
        *_too_much(world, offer_id, limit),
    ]


Row = tuple[str, int, int]


def _unkept(history: History, rows: dict[str, Row], heard: dict[str, str]) -> Iterator[str]:
    """Promises to clients that PostgreSQL does not keep."""
    for pk, story in history.stories.items():
        state = rows[pk][0] if pk in rows else None
        if story.acknowledged and (state is None or heard[pk] != HEARS[state]):
            yield f"{pk} was acknowledged, is {state}, and its buyer heard {heard.get(pk)}: {story}"
        if state is not None and not _could_be(state, story):
            yield f"{pk} is {state}: {story}"
        if _was_told_a_lie(story):
            yield f"{pk} was held, and its buyer heard otherwise before: {story}"
        if state and not story.acknowledged and not story.is_unknown:
            yield f"{pk} is {state}, and its buyer heard a clear no: {story}"


def _was_told_a_lie(story: Story) -> bool:
    """That nothing was done for a press of the button, where the next press finds that something was."""
    before = list(takewhile(lambda outcome: outcome != "REPEATED", story.outcomes))
    return len(before) < len(story.outcomes) and not {"RESERVED", "UNKNOWN"} & {*before}


def _could_be(state: str, story: Story) -> bool:
    """Whether a reservation may have this state, after what its buyer did and was told."""
    told_placed = bool({"placed", "paid"} & {*story.states})
    match state:
        case "held":
            return not story.has & {"pay", "cancel"}
        case "confirmed":
            return "pay" in story.wants and "cancel" not in story.has
        case "released":
            return "cancel" in story.wants
        case "expired":
            return "cancel" not in story.has
        case _:
            return not told_placed


def _unasked(history: History, rows: dict[str, Row]) -> Iterator[str]:
    """Reservations that nobody asked for like that."""
    for pk, (state, buyer_id, units) in rows.items():
        story = history.stories.get(pk)
        if story is None or (story.buyer_id, story.units) != (buyer_id, units):
            yield f"{pk} is {state} for buyer {buyer_id} with {units} units, who asked: {story}"


def _too_much(world: World, offer_id: int, limit: int) -> Iterator[str]:
    """Units sold twice, or too many to one buyer, by a sum of our own."""
    [(quantity,)] = world.rows("SELECT sum(moved) FROM inventory_stockchange WHERE stock_id = %s", offer_id)
    alive = world.rows(
        "SELECT buyer_id, units FROM inventory_reservation WHERE stock_id = %s AND state IN ('held', 'confirmed')",
        offer_id,
    )
    has = Counter[int]()
    for buyer_id, units in alive:
        has[buyer_id] += units
    if has.total() > quantity:
        yield f"{has.total()} units are held and sold of {quantity}"
    for buyer_id, units in has.items():
        if units > limit:
            yield f"buyer {buyer_id} has {units} units, the limit is {limit}"

"""The real inventory and its model, side by side: every step is done to both, and both are compared after it."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis
from django.conf import settings
from django.db import IntegrityError, connection
from hypothesis import HealthCheck
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inventory import _keys, effects, outbox, recovery, reservations, stock
from inventory.models import Effect, Reservation, Stock, StockChange
from inventory.outcomes import InventoryUnavailable, Standing
from inventory.outcomes import Wish as RealWish
from inventory.stock import Shelf, ShelfLost
from inventory.verification import findings
from resilience import failpoint
from resilience.clock import now_ms
from tests.invariants.model import NOBODY, RECOVERER, Died, Lost, OfferModel, Receipt, Hold, Wish, live

HOUR_MS = 3_600_000
#: Where Redis's clock stands in the window, as opens_at and closes_at from now.
WINDOWS = {"before": (HOUR_MS, 2 * HOUR_MS), "open": (-HOUR_MS, HOUR_MS), "over": (-HOUR_MS, -1)}
#: What Lua's own tonumber, or a pattern, would have taken.
NO_NUMBERS = ["0", "-1", "nan", "1e3", "0x1", " 1", "1.0", "", "1" * 16, "x", "%d", "7:1"]
TABLES = ("claim", "effect", "deadentry", "buyerunits", "reservation", "stockchange", "stock")
#: Keys whose loss no watcher notices by itself: an audit does, and an operator rebuilds.
UNNOTICED = ["reservations", "buyers", "changes"]
LOSSES = ["everything", "everything", "units", "events", "events", *UNNOTICED, "scripts"]
PLACES = ["drain.read", "drain.uncommitted", "drain.committed", "drain.told"]


def place_orders(held: Sequence[Reservation]) -> dict[str, str]:
    """An order book that knows everybody but NOBODY."""
    if any(reservation.buyer_id == NOBODY for reservation in held):
        raise IntegrityError("no such buyer")
    return {reservation.pk: f"N{reservation.pk}" for reservation in held}


class Failpoints:
    """Stands in for `failpoint.hit`: the process dies at one place."""

    def __init__(self) -> None:
        self.dies_at = ""

    def hit(self, place: str) -> None:
        if place == self.dies_at:
            raise Died

    @contextmanager
    def dying_at(self, place: str) -> Iterator[None]:
        self.dies_at = place
        try:
            yield
        finally:
            self.dies_at = ""


failpoints = Failpoints()

#: No database of examples: a failure is repeated by its seed, and the checkout stays clean.
PROFILE = profile(
    stateful_step_count=50,
    deadline=None,
    database=None,
    report_multiple_bugs=False,  # each would be shrunk by itself, which takes minutes
    suppress_health_check=[
        HealthCheck.too_slow,  # real servers: ten milliseconds a step, on a busy machine more
        HealthCheck.data_too_large,  # fifty steps are what is asked for
        HealthCheck.function_scoped_fixture,  # each example cleans up after itself
    ],
)


def outcome_of(do: Callable[[], Any]) -> Any:
    """What a step answers, or what became of it, in one word for both worlds."""
    try:
        return do()
    except Died:
        return "DIED"
    except (Lost, ShelfLost, InventoryUnavailable):
        return "LOST"


numbers = st.one_of(st.integers(0, 7), st.integers(0, 47))


def natural(number: int) -> tuple[int, int]:
    """The buyer who was given this reservation's ticket, and the units that are wished for with it."""
    return 1 + number % NOBODY, (1, 1, 2, 1, 3)[number % 5]


AGAIN = ["honest", "late", "other buyer", "other units"]
KINDS = ["honest"] * 12 + [*AGAIN, "bad units", "bad buyer", "bad name", "bad reason"]

#: A reservation's number, how the wish for it differs from an honest one, and what stands where a number should.
WishDrawn = tuple[int, str, str]


def wishes() -> st.SearchStrategy[WishDrawn]:
    return st.tuples(numbers, st.sampled_from(KINDS), st.sampled_from(NO_NUMBERS))


class Offer:
    """One offer in both worlds."""

    def __init__(self, client: redis.Redis, quantity: int, limit: int) -> None:
        self.client = client
        self.pk = Stock.objects.create(quantity=quantity, unit_limit=limit, hold_seconds=900).pk
        self.model = OfferModel(quantity, limit)
        self.put("open", "open")

    def name(self, number: int) -> str:
        return f"{self.pk}-r{number}"

    def pick(self, pick: int) -> str:
        """The name of some reservation, in whatever state, or of none that there is."""
        known = sorted(self.model.rows.keys() | self.model.receipts.keys())
        return known[pick % len(known)] if known and pick < 40 else self.name(pick)

    def shelf(self, state: str, window: str) -> Shelf:
        opens_in_ms, closes_in_ms = WINDOWS[window]
        return Shelf(state, now_ms() + opens_in_ms, now_ms() + closes_in_ms)

    def put(self, state: str, window: str) -> str:
        return stock.put_on_shelf(self.pk, self.shelf(state, window))

    def wishes(self, batch: list[WishDrawn]) -> tuple[list[RealWish], list[Wish]]:
        before: set[str] = set()
        both = []
        for number, kind, junk in batch:
            both.append(self.wish(number, kind, junk, before))
            before.add(self.name(number))
        return [real for real, _ in both], [spelled for _, spelled in both]

    def wish(self, number: int, kind: str, junk: str, before: set[str]) -> tuple[RealWish, Wish]:
        """The same wish for both worlds. Only who holds the ticket of a reservation can be the first to ask for it."""
        name, (buyer, units) = self.name(number), natural(number)
        known = name in self.model.holds or name in before
        if name in self.model.receipts:
            buyer, units = self.model.receipts[name].hold.buyer, self.model.receipts[name].hold.units
        asked: list[Any] = [name, buyer, units, ""]
        match kind:
            case "late":
                asked[3] = "late"
            case "other buyer" if known:
                asked[1] = buyer % NOBODY + 1
            case "other units" if known:
                asked[2] = units + 1
            case "bad units":
                asked[2] = junk
            case "bad buyer":
                asked[1] = junk
            case "bad name":
                asked[0] = "x" * 49 if junk else ""
            case "bad reason":
                asked[3] = "because"
        valid = not kind.startswith("bad")
        spelled = Wish(asked[0], asked[1], asked[2], asked[3] == "late", valid)
        return RealWish(*asked), spelled

    # --- what is really there

    def redis(self) -> dict[str, Any]:
        """What Redis holds, spelled like the model."""
        step = self.client.pipeline(transaction=False)
        step.hgetall(_keys.units(self.pk))
        step.hgetall(_keys.reservations(self.pk))
        step.hgetall(_keys.buyers(self.pk))
        step.xlen(_keys.events(self.pk))
        units, records, buyers, events = step.execute()
        holds = {}
        for name, record in records.items():
            state, buyer, its_units = record.split(":")[:3]
            holds[name] = Hold(int(buyer), int(its_units), state)
        return {
            "units": {
                name: units.get(name) for name in ("quantity", "available", "held", "sold", "epoch", "waiting", "taken")
            },
            "holds": holds,
            "buyers": {
                int(buyer): (int(had.split(":")[0]), set(had.split(":")[1].split(","))) for buyer, had in buyers.items()
            },
            "events": events,
        }

    def expected_redis(self) -> dict[str, Any]:
        model = self.model
        holds, buyers = model.holds, {}
        for name, hold in holds.items():
            if hold.state in ("held", "placed", "paid"):
                had = buyers.setdefault(hold.buyer, (0, set()))
                buyers[hold.buyer] = (had[0] + hold.units, had[1] | {name})
        units: dict[str, Any] = dict.fromkeys(("quantity", "available", "held", "sold", "epoch", "waiting", "taken"))
        if model.quantity is not None:
            sold = sum(hold.units for hold in holds.values() if hold.state == "paid")
            units = {
                "quantity": model.quantity,
                "available": model.available,
                "held": live(holds) - sold,
                "sold": sold,
                "epoch": model.shelf_epoch,
                "waiting": model.waiting if model.has_stream else "any",
                "taken": sum(hold.units for hold in holds.values()),
            }
        units = {name: value if value is None else str(value) for name, value in units.items()}
        return {"units": units, "holds": holds, "buyers": buyers, "events": len(model.events)}

    def compare_redis(self) -> None:
        found, expected = self.redis(), self.expected_redis()
        if expected["units"]["waiting"] == "any":
            found["units"]["waiting"] = "any"
        assert found == expected

    def compare_postgresql(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT quantity, held, sold, unit_limit, epoch, recovering_until IS NOT NULL,
                       (SELECT array_agg(id || ':' || buyer_id || ':' || units || ':' || state)
                          FROM inventory_reservation r WHERE r.stock_id = s.id),
                       (SELECT array_agg(buyer_id || ':' || units)
                          FROM inventory_buyerunits b WHERE b.stock_id = s.id AND units > 0),
                       (SELECT array_agg(reservation_id || ':' || kind || ':' || epoch || ':' || (applied_at IS NOT NULL)::int)
                          FROM inventory_effect e WHERE e.stock_id = s.id)
                  FROM inventory_stock s WHERE id = %s
                """,
                [self.pk],
            )
            quantity, held, sold, limit, epoch, recovering, rows, buyers, effects = cursor.fetchone()
        model = self.model
        confirmed = sum(row.units for row in model.rows.values() if row.state == "confirmed")
        assert (quantity, held, sold) == (model.recorded_quantity, live(model.rows) - confirmed, confirmed)
        assert (limit, epoch, recovering) == (model.limit, model.epoch, model.recovering)
        assert set(rows or ()) == {f"{pk}:{row.buyer}:{row.units}:{row.state}" for pk, row in model.rows.items()}
        buyers_expected = {row.buyer for row in model.rows.values() if live(model.rows, row.buyer)}
        assert set(buyers or ()) == {f"{buyer}:{live(model.rows, buyer)}" for buyer in buyers_expected}
        assert set(effects or ()) == {
            f"{pk}:{effect.word}:{effect.epoch}:{int(effect.applied)}" for pk, effect in model.effects.items()
        }


class InventoryMachine(RuleBasedStateMachine):
    """Rules draw which of the offers they are about; some are about all of them, as in the real thing."""

    def __init__(self) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(settings.STOCK_REDIS_URL, decode_responses=True)
        self.offers: list[Offer] = []

    @initialize(
        terms=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 4)), min_size=1, max_size=2),
        batch=st.lists(wishes(), min_size=1, max_size=5),
    )
    def put_on_the_shelf(self, terms: list[tuple[int, int]], batch: list[WishDrawn]) -> None:
        self.client.flushall()
        self.offers = [Offer(self.client, quantity, limit) for quantity, limit in terms]
        self.buyers_come(0, batch)

    def offer(self, which: int) -> Offer:
        return self.offers[which % len(self.offers)]

    # --- buyers; in three rules, because hypothesis leaves out some rules in each example

    @rule(which=st.integers(0, 1), number=numbers)
    def a_buyer_comes(self, which: int, number: int) -> None:
        self.buyers_come(which, [(number, "honest", "")])

    @rule(which=st.integers(0, 1), number=numbers, kinds=st.lists(st.sampled_from(AGAIN), min_size=1, max_size=2))
    def a_ticket_is_used_again(self, which: int, number: int, kinds: list[str]) -> None:
        self.buyers_come(which, [(number, kind, "") for kind in ["honest", *kinds]])

    @rule(which=st.integers(0, 1), batch=st.lists(wishes(), min_size=1, max_size=5))
    def buyers_come(self, which: int, batch: list[WishDrawn]) -> None:
        offer = self.offer(which)
        real, spelled = offer.wishes(batch)
        answers = reservations.reserve(offer.pk, real)
        assert [str(answer.outcome) for answer in answers] == offer.model.reserve(spelled)
        for wish, answer in zip(spelled, answers, strict=True):
            assert answer.epoch == (offer.model.shelf_epoch or 0)
            if answer.outcome.yours:
                hold = Hold(wish.buyer, wish.units)
                offer.model.receipts[wish.reservation] = Receipt(hold, answer.epoch, answer.at_ms)

    @rule(
        which=st.integers(0, 1),
        pick=numbers,
        state=st.sampled_from(["confirmed", "released"]),
        times=st.integers(1, 2),
    )
    def end(self, which: int, pick: int, state: str, times: int) -> None:
        offer, do = self.offer(which), {"confirmed": reservations.confirm, "released": reservations.release}[state]
        name = offer.pick(pick)
        for _ in range(times):
            assert do(name) == offer.model.end(name, state)

    @rule(which=st.integers(0, 1), picks=st.sets(numbers, max_size=3))
    def time_runs_out(self, which: int, picks: set[int]) -> None:
        """For some reservations of one offer; the sweep asks all offers."""
        offer = self.offer(which)
        names = {offer.pick(pick) for pick in picks} & offer.model.rows.keys()
        Reservation.objects.filter(pk__in=names).update(expires_at="2020-01-01T00:00:00Z")
        offer.model.due |= names
        ended: list[str] = []
        reservations.expire_due(ended.extend)
        assert sorted(ended) == sorted(name for each in self.offers for name in each.model.expire())

    # --- workers

    @rule(which=st.integers(0, 1))
    def drain(self, which: int) -> None:
        self.a_worker_drains(which, "a", True, "")

    @rule(
        which=st.integers(0, 1),
        reader=st.sampled_from(["a", "b"]),
        claims=st.booleans(),
        dies_at=st.sampled_from(["", *PLACES]),
    )
    def a_worker_drains(self, which: int, reader: str, claims: bool, dies_at: str) -> None:
        offer = self.offer(which)
        settings.CLAIM_AFTER_SECONDS = 0 if claims else 60
        with failpoints.dying_at(dies_at):
            done = outcome_of(lambda: outbox.drain(offer.pk, place_orders, consumer=reader))
        assert done == outcome_of(lambda: offer.model.drain(reader, claims, dies_at))

    @rule(twice=st.booleans())
    def settle(self, twice: bool) -> None:
        if twice:
            Effect.objects.update(applied_at=None)
        effects.apply_pending()
        for offer in self.offers:
            offer.model.apply(again=twice)

    @rule()
    def tidy(self) -> None:
        if not any(offer.model.quantity is None for offer in self.offers):
            stock.finish_changes()
            for offer in self.offers:
                offer.model.finish_changes()
        assert outbox.trim_all() == sum(offer.model.trim() for offer in self.offers)

    @rule(which=st.integers(0, 1))
    def replay(self, which: int) -> None:
        offer = self.offer(which)
        if not offer.model.lost and not offer.model.waiting:
            self.client.xgroup_setid(_keys.events(offer.pk), _keys.GROUP, "0")
            offer.model.replay()
            self.client.hset(_keys.units(offer.pk), "waiting", offer.model.waiting)

    # --- staff

    @rule(
        which=st.integers(0, 1),
        state=st.sampled_from(["open", "open", "open", "paused", "closed"]),
        window=st.sampled_from(["open", "open", "before", "over"]),
        number=numbers,
    )
    def show(self, which: int, state: str, window: str, number: int) -> None:
        """Pause, resume, close, or let time pass; and somebody comes to see."""
        offer = self.offer(which)
        done = outcome_of(lambda: offer.put(state, window) and None)
        assert done == outcome_of(lambda: offer.model.show(state, window))
        self.a_buyer_comes(which, number)

    @rule(
        which=st.integers(0, 1),
        units=st.sampled_from([1, 3, -1, -3, -20]),
        dies_at=st.sampled_from(["", "", "change.asked", "change.moved"]),
    )
    def change(self, which: int, units: int, dies_at: str) -> None:
        offer = self.offer(which)
        with failpoints.dying_at(dies_at):
            done = outcome_of(lambda: stock.change(offer.pk, units, reason="", by="") and None)
        assert done == outcome_of(lambda: offer.model.change(units, dies_at))

    @rule(which=st.integers(0, 1), limit=st.integers(1, 4))
    def change_limit(self, which: int, limit: int) -> None:
        offer = self.offer(which)
        done = outcome_of(lambda: stock.change_limit(offer.pk, limit))
        assert done == outcome_of(lambda: offer.model.change_limit(limit))

    # --- faults

    @rule(which=st.integers(0, 1), what=st.sampled_from(LOSSES), polls=st.sampled_from([0, 0, 1, 3]))
    def lose(self, which: int, what: str, polls: int) -> None:
        """All keys of all offers, or one key of one; some buyers poll before anybody notices."""
        offer = self.offer(which)
        if what == "scripts":
            self.client.script_flush()
        elif what == "everything":
            self.client.flushall()
            for each in self.offers:
                each.model.lose(what)
        elif what not in UNNOTICED or not offer.model.recovering:
            self.client.delete(getattr(_keys, what)(offer.pk))
            offer.model.lose(what)
            if what in UNNOTICED:
                recovery.rebuild(offer.pk, place_orders)
                offer.model.rebuild()
        self.buyers_show_receipts(which, polls, latest=False)

    @rule(which=st.integers(0, 1), most=st.integers(1, 4), latest=st.booleans())
    def buyers_show_receipts(self, which: int, most: int, latest: bool) -> None:
        """Some whose reservations neither store knows, each twice: a poll comes every second."""
        offer = self.offer(which)
        for name in sorted(offer.model.vanished(), reverse=latest)[:most]:
            receipt = offer.model.receipts[name]
            held = Standing(name, "held", receipt.hold.buyer, receipt.hold.units)
            for _ in range(2):
                recovery.claim(offer.pk, held, receipt.epoch, receipt.at_ms, place_orders)
                offer.model.claim(name)

    @rule()
    def watch(self) -> None:
        assert recovery.watch(place_orders) == []
        for offer in self.offers:
            offer.model.watch()

    # --- promises

    @invariant()
    def both_are_equal(self) -> None:
        for offer in self.offers:
            offer.compare_redis()
            offer.compare_postgresql()

    @invariant()
    def nothing_is_oversold(self) -> None:
        for offer in self.offers:
            assert offer.model.available >= 0 or offer.model.quantity is None
            assert live(offer.model.rows) <= offer.model.recorded_quantity

    def teardown(self) -> None:
        try:
            if self.offers:
                self.bring_home()
        finally:
            with connection.cursor() as cursor:
                cursor.execute("".join(f"DELETE FROM inventory_{table};" for table in TABLES))

    def bring_home(self) -> None:
        """Let everything arrive that is under way, and ask the checker."""
        self.watch()
        for offer in self.offers:
            self.show(self.offers.index(offer), "open", "open", 0)
        self.tidy()
        for _ in range(2):
            for which in range(len(self.offers)):
                self.drain(which)
            self.settle(False)
            self.watch()
        self.both_are_equal()
        self.nothing_is_oversold()
        for offer in self.offers:
            assert findings(offer.pk) == []

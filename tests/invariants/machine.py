"""What may happen to a sale, in any order: each rule is done to the real inventory and to its model, which must agree.

Not here: a torn log (tests/faults), several threads at once (tests/inventory), and the very millisecond of opening and
closing, because nobody can stop Redis's clock.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import redis
from django.conf import settings
from django.db import connection
from hypothesis import HealthCheck, Phase
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inventory import _keys, effects, outbox, recovery, rereading, reservations, stock
from inventory.models import Effect, Reservation
from inventory.outcomes import InventoryUnavailable, Standing
from inventory.stock import ShelfLost
from inventory.verification import findings
from tests.invariants.both_worlds import AGAIN, KINDS, NAMES, NO_NUMBERS, WINDOWS, Drawn, Offer, place_orders
from tests.invariants.model import Died, Hold, Lost, Receipt, live

#: Keys whose loss no watcher notices by itself: an audit does, and an operator rebuilds.
UNNOTICED = ["reservations", "buyers", "changes"]
LOSSES = ["everything", "everything", "units", "events", "events", *UNNOTICED, "scripts"]
#: Where a drain may die, and where a change may.
DRAIN_DIES = ["drain.read", "drain.uncommitted", "drain.committed", "drain.told"]
CHANGE_DIES = ["change.asked", "change.moved"]
TABLES = ["claim", "effect", "deadentry", "buyerunits", "reservation", "stockchange", "stock"]

#: How Redis ends before it comes back with its log: as a machine does that goes down, and as one that crashes.
ENDINGS = [signal.SIGTERM, signal.SIGKILL]
#: Restarts of Redis in one example: each takes as long as all its other steps together.
RESTARTS_MAXIMUM = 1

#: Batches that one step can have: there are not so many events.
BATCHES_MAXIMUM = 100

#: No database of examples: a failure is repeated by its seed, and the checkout stays clean.
PROFILE = profile(
    stateful_step_count=50,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,  # each would be shrunk by itself, which takes minutes
    suppress_health_check=[
        HealthCheck.too_slow,  # real servers: some milliseconds a step, on a busy machine more
        HealthCheck.data_too_large,  # fifty steps are what is asked for
    ],
)

either = st.integers(0, 1)
#: Of reservations: a few are asked for often.
numbers = st.one_of(st.integers(0, 7), st.integers(0, NAMES - 1))
batches = st.lists(st.tuples(numbers, st.sampled_from(KINDS), st.sampled_from(NO_NUMBERS)), min_size=1, max_size=5)


class Failpoints:
    """Stands in for `failpoint.hit`: the process dies at one place, and a drain that does not end is noticed."""

    def __init__(self) -> None:
        self._dies_at = ""
        self.batches = 0

    def hit(self, place: str) -> None:
        self.batches += place == "drain.read"
        assert self.batches < BATCHES_MAXIMUM, "a drain reads the same events for ever"
        if place == self._dies_at:
            raise Died

    @contextmanager
    def dying_at(self, place: str) -> Iterator[None]:
        self._dies_at = place
        try:
            yield
        finally:
            self._dies_at = ""


failpoints = Failpoints()


def outcome_of(do: Callable[[], Any]) -> Any:
    """What a step answers, or one word for what became of it, in either world."""
    try:
        return do()
    except Died:
        return "DIED"
    except (Lost, ShelfLost, InventoryUnavailable):
        return "LOST"


class InventoryMachine(RuleBasedStateMachine):
    """Rules draw which of the offers they are about; some are about all of them, as in the real thing."""

    #: Ends stock Redis by a signal, and returns when it answers again; set by whoever has started it.
    restart_redis: ClassVar[Callable[[signal.Signals], None]]

    def __init__(self) -> None:
        super().__init__()
        self.restarts_left = RESTARTS_MAXIMUM
        self.client = redis.Redis.from_url(settings.STOCK_REDIS_URL, decode_responses=True)
        self.offers: list[Offer] = []

    @initialize(
        terms=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 4)), min_size=1, max_size=2),
        batch=batches,
    )
    def put_on_the_shelf(self, terms: list[tuple[int, int]], batch: Sequence[Drawn]) -> None:
        self.client.flushall()
        failpoints.batches = 0
        self.offers = [Offer(self.client, quantity, limit) for quantity, limit in terms]
        self.buyers_come(0, batch)

    def offer(self, which: int) -> Offer:
        return self.offers[which % len(self.offers)]

    # --- buyers; in three rules, because hypothesis leaves out some rules in each example

    @rule(which=either, number=numbers)
    def a_buyer_comes(self, which: int, number: int) -> None:
        self.buyers_come(which, [(number, "honest", "")])

    @rule(which=either, number=numbers, kinds=st.lists(st.sampled_from(AGAIN), min_size=1, max_size=2))
    def a_ticket_is_used_again(self, which: int, number: int, kinds: list[str]) -> None:
        self.buyers_come(which, [(number, kind, "") for kind in ["honest", *kinds]])

    @rule(which=either, batch=batches)
    def buyers_come(self, which: int, batch: Sequence[Drawn]) -> None:
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
        which=either,
        pick=numbers,
        state=st.sampled_from(["confirmed", "released"]),
        times=st.integers(1, 2),
    )
    def end(self, which: int, pick: int, state: str, times: int) -> None:
        offer, do = self.offer(which), {"confirmed": reservations.confirm, "released": reservations.release}[state]
        name = offer.pick(pick)
        for _ in range(times):
            assert do(name) == offer.model.end(name, state)

    @rule(which=either, picks=st.sets(numbers, max_size=3))
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

    @rule(which=either)
    def drain(self, which: int) -> None:
        self.a_worker_drains(which, "a", True, "")

    @rule(
        which=either,
        reader=st.sampled_from(["a", "b"]),
        claims=st.booleans(),
        dies_at=st.sampled_from(["", *DRAIN_DIES]),
    )
    def a_worker_drains(self, which: int, reader: str, claims: bool, dies_at: str) -> None:
        offer = self.offer(which)
        settings.CLAIM_AFTER_SECONDS = 0 if claims else 60
        with failpoints.dying_at(dies_at):
            done = outcome_of(lambda: outbox.drain(offer.pk, place_orders, consumer=reader))
        assert done == outcome_of(lambda: offer.model.drain(reader, claims, dies_at))

    @rule(which=either, pick=numbers)
    def a_slow_worker_tells(self, which: int, pick: int) -> None:
        """It read a row that was held, and tells the polls only now. Not of one that was refused and nobody has heard
        of it: that row was never held."""
        offer = self.offer(which)
        name = offer.pick(pick)
        row, hold = offer.model.rows.get(name), offer.model.holds.get(name)
        never_held = row is not None and row.state == "refused" and hold is not None and hold.state == "held"
        if row is not None and not never_held:
            outbox._record([_keys.reservations(offer.pk)], [name, "N", 0])
            offer.model.tell_late(name)

    @rule(twice=st.booleans())
    def settle(self, twice: bool) -> None:
        """Twice: every effect there ever was is delivered once more."""
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

    @rule(which=either)
    def reread(self, which: int) -> None:
        """Of a PostgreSQL that has forgotten nothing: what waits is written down a little earlier, and no more."""
        offer = self.offer(which)
        done = outcome_of(lambda: rereading.reread(offer.pk, place_orders, lambda *_: None).missing)
        assert done == outcome_of(offer.model.reread)

    @rule(which=either)
    def replay(self, which: int) -> None:
        """By hand, when PostgreSQL itself lost its last commits: what is kept of the stream is read again."""
        offer = self.offer(which)
        if not offer.model.lost and not offer.model.waiting:
            self.client.xgroup_setid(_keys.events(offer.pk), _keys.GROUP, "0")
            offer.model.replay()
            self.client.hset(_keys.units(offer.pk), "waiting", offer.model.waiting)

    # --- staff

    @rule(
        which=either,
        state=st.sampled_from(["open", "open", "open", "paused", "closed"]),
        window=st.sampled_from(["open", *WINDOWS]),
        number=numbers,
    )
    def show(self, which: int, state: str, window: str, number: int) -> None:
        """Pause, resume, close, or let time pass; and somebody comes to see."""
        offer = self.offer(which)
        done = outcome_of(lambda: offer.put(state, window))
        assert done == outcome_of(lambda: offer.model.show(state, window))
        self.a_buyer_comes(which, number)

    @rule(
        which=either,
        units=st.sampled_from([1, 3, -1, -3, -20]),
        dies_at=st.sampled_from(["", "", *CHANGE_DIES]),
    )
    def change(self, which: int, units: int, dies_at: str) -> None:
        offer = self.offer(which)
        with failpoints.dying_at(dies_at):
            done = outcome_of(lambda: stock.change(offer.pk, units, reason="", by="") and None)
        assert done == outcome_of(lambda: offer.model.change(units, dies_at))

    @rule(which=either, limit=st.integers(1, 4))
    def change_limit(self, which: int, limit: int) -> None:
        offer = self.offer(which)
        done = outcome_of(lambda: stock.change_limit(offer.pk, limit))
        assert done == outcome_of(lambda: offer.model.change_limit(limit))

    # --- faults

    @rule(which=either, what=st.sampled_from(LOSSES), polls=st.sampled_from([0, 0, 1, 3]))
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

    @precondition(lambda self: self.restarts_left)
    @rule(ending=st.sampled_from(ENDINGS))
    def redis_restarts(self, ending: signal.Signals) -> None:
        """It comes back with its log: the model does not even notice. Whoever had read an event has it still."""
        self.restarts_left -= 1
        type(self).restart_redis(ending)

    @rule(which=either, most=st.integers(1, 4), latest=st.booleans())
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
        failpoints.batches = 0
        for offer in self.offers:
            offer.compare()

    @invariant()
    def nobody_has_too_much(self) -> None:
        """Of what the model says; that it is true of the stores is checked above."""
        for model in (offer.model for offer in self.offers):
            assert model.quantity is None or model.available >= 0
            assert live(model.rows) <= model.recorded_quantity
            assert all(live(model.rows, row.buyer) <= model.highest_limit for row in model.rows.values())

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # else a step has failed, and says more than this would
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
        for offer in self.offers:
            offer.compare()
            assert findings(offer.pk) == []

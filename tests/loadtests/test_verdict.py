"""The verdict on an honest sale, and on the same sale with one mistake planted in what was recorded of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests import report, verdict
from loadtests.evidence import Evidence
from loadtests.records import CHEAT, METRONOME, PROCESSOR, Record
from loadtests.verdict import Status, judge
from tests.loadtests.a_sale import ANN, BOB, CID, EVE, OPENS_AT_MS, T0, honest_sale, record, row

Plant = Callable[[Evidence], None]


def test_an_honest_sale_passes() -> None:
    """Every promise kept, every bar held, and each check was judged."""
    judged = judge(honest_sale())

    assert judged.status is Status.PASS, verdict.text(judged)
    assert all(finding.judged for finding in judged.findings)


def oversold(evidence: Evidence) -> None:
    """A fourth unit of three is sold, with counters that agree."""
    assert evidence.books
    evidence.books.reservations["1-fay"] = row(6, "confirmed", "paid", 0.4, 1.0)
    evidence.books.redis_reservations["1-fay"] = ("paid", 106, 1)
    evidence.books.sold = 4


def told_to_too_many(evidence: Evidence) -> None:
    """Four people are told RESERVED while three units are somebody's; the stores know of three only."""
    evidence.records.append(record("buy", EVE, 1.0, 202, "RESERVED", about="1-eve", ticket="eve"))


def a_lost_counter(evidence: Evidence) -> None:
    """Redis's counters do not add up at one moment."""
    assert evidence.samples
    evidence.samples[30] = evidence.samples[30]._replace(available=2)


def released_twice(evidence: Evidence) -> None:
    """Cid's unit came back, and came back again."""
    assert evidence.books
    evidence.books.redis["available"] = 1


def an_end_that_never_came(evidence: Evidence) -> None:
    """Cid's hold ran out long ago, and his unit is still his."""
    assert evidence.books
    evidence.books.reservations["1-cid"] = row(CID, "held", "awaiting_payment", -60.0, None)
    evidence.books.redis_reservations["1-cid"] = ("placed", 100 + CID, 1)
    evidence.books.held, evidence.books.quantity = 1, 4
    evidence.plan = replace(evidence.plan, quantity=4)
    evidence.samples = []


def the_limit_skipped(evidence: Evidence) -> None:
    """Bob gets a second unit, which PostgreSQL takes back a moment later."""
    assert evidence.books
    evidence.books.reservations["1-bo2"] = row(BOB, "refused", "", 1.6, 1.7)
    evidence.books.redis_reservations["1-bo2"] = ("refused", 100 + BOB, 1)
    evidence.records.append(record("buy", BOB, 1.6, 202, "RESERVED", about="1-bo2", ticket="another"))
    evidence.plan = replace(evidence.plan, quantity=4)


def the_limit_skipped_in_both(evidence: Evidence) -> None:
    """What Dan bought is Bob's, says PostgreSQL."""
    assert evidence.books
    evidence.books.reservations["1-dan"] = evidence.books.reservations["1-dan"]._replace(buyer=100 + BOB)
    evidence.books.redis_reservations["1-dan"] = ("paid", 100 + BOB, 1)


def two_answers_to_one_ticket(evidence: Evidence) -> None:
    """Ann's ticket, sent again, gives another reservation."""
    evidence.records.append(record("buy", ANN, 0.4, 200, "REPEATED", about="1-dan", ticket="ticket of 0"))


def reserved_twice(evidence: Evidence) -> None:
    """Ann's ticket, sent again, is told RESERVED, as if it were new."""
    evidence.records.append(record("buy", ANN, 0.4, 202, "RESERVED", about="1-ann", ticket="ticket of 0"))


def an_event_dropped(evidence: Evidence) -> None:
    """Bob was told RESERVED, and nobody wrote it down."""
    assert evidence.books
    del evidence.books.reservations["1-bob"], evidence.books.redis_reservations["1-bob"]
    evidence.records[:] = [each for each in evidence.records if each.about != "1-bob" or each.kind != "poll"]
    evidence.books.sold, evidence.books.redis["available"] = 2, 1


def placed_and_not_committed(evidence: Evidence) -> None:
    """A poll said that the order was placed, before there was one."""
    evidence.records.append(record("poll", EVE, 3.0, 200, "placed", about="1-eve"))


def paid_and_expired(evidence: Evidence) -> None:
    """Ann has paid, and her order ran out."""
    assert evidence.books
    evidence.books.reservations["1-ann"] = row(ANN, "expired", "expired", 0.1, 5.1)
    evidence.books.redis_reservations["1-ann"] = ("expired", 100 + ANN, 1)
    evidence.books.sold, evidence.books.redis["available"] = 2, 1


def buyers_last(evidence: Evidence) -> None:
    """Those who click are sent away, those who look are served."""
    evidence.records += [record("buy", who, 0.5, 503, "BUSY") for who in range(5)]


def a_level_that_flaps(evidence: Evidence) -> None:
    evidence.levels = [(OPENS_AT_MS + ms, level) for ms, level in ((0, "NORMAL"), (1_000, "SHED"), (4_000, "NORMAL"))]


def the_stores_disagree(evidence: Evidence) -> None:
    """What is paid in PostgreSQL is on sale in Redis."""
    assert evidence.books
    evidence.books.redis_reservations["1-ann"] = ("expired", 100 + ANN, 1)


def verify_disagrees(evidence: Evidence) -> None:
    assert evidence.books
    evidence.books.findings = [{"promise": 1, "offer_id": 1, "seen": "the ledger adds up to 2 units"}]


def served_too_early(evidence: Evidence) -> None:
    """A ticket two seconds before the opening."""
    evidence.records.append(record("ticket", EVE, -2.0, 200, "TICKET"))


def sold_out_with_units_left(evidence: Evidence) -> None:
    """Cid's unit is free for ten seconds, and Eve hears SOLD_OUT all the while."""
    assert evidence.samples
    last = evidence.samples[-1]
    evidence.samples += [last._replace(at_ms=last.at_ms + 50 * step, available=1, sold=2) for step in range(1, 200)]
    evidence.records.append(record("ticket", EVE, 14.0, 409, "SOLD_OUT"))


def a_stolen_ticket_works(evidence: Evidence) -> None:
    evidence.records.append(record(CHEAT, 5, 1.2, 200, "REPEATED", role="shared tickets", about="1-ann"))


def an_error_of_ours(evidence: Evidence) -> None:
    evidence.records.append(record("poll", ANN, 1.2, 500, "ERROR"))


@pytest.mark.parametrize(
    ("plant", "promise"),
    [
        (oversold, "promise 1, never oversold"),
        (told_to_too_many, "promise 1, never oversold"),
        (a_lost_counter, "promise 1, never oversold"),
        (the_limit_skipped, "promise 2, one buyer, one limit"),
        (the_limit_skipped_in_both, "promise 2, one buyer, one limit"),
        (two_answers_to_one_ticket, "promise 3, one click, one answer"),
        (reserved_twice, "promise 3, one click, one answer"),
        (served_too_early, "promise 3, one click, one answer"),
        (a_stolen_ticket_works, "promise 3, one click, one answer"),
        (an_event_dropped, 'promise 4, "order placed" means committed'),
        (placed_and_not_committed, 'promise 4, "order placed" means committed'),
        (paid_and_expired, "promise 5, a paid order is never lost"),
        (released_twice, "promise 6, units come back"),
        (an_end_that_never_came, "promise 6, units come back"),
        (sold_out_with_units_left, "promise 6, units come back"),
        (buyers_last, "promise 7, buyers first"),
        (a_level_that_flaps, "promise 7, buyers first"),
        (the_stores_disagree, "promise 8, no single death stops the truth"),
        (verify_disagrees, "promise 8, no single death stops the truth"),
        (an_error_of_ours, "promise 8, no single death stops the truth"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_planted_mistake_fails_and_its_promise_is_named(plant: Plant, promise: str) -> None:
    """FAIL, and the last line names the promise."""
    evidence = honest_sale()
    plant(evidence)

    judged = judge(evidence)

    assert judged.status is Status.FAIL
    assert promise in verdict.text(judged).splitlines()[-1], verdict.text(judged)


def late_beats(seconds: float) -> Iterator[Record]:
    return (
        Record(METRONOME, "", 0, T0 + at / 10, T0 + at / 10 + seconds, T0 + at / 10 + seconds, 0) for at in range(50)
    )


def test_a_client_that_was_late_is_inconclusive() -> None:
    """Slow answers that may be the client's own are no verdict on the shop, whatever they are."""
    evidence = honest_sale()
    evidence.records += [*late_beats(0.2), record("buy", EVE, 1.0, 409, "SOLD_OUT")._replace(done=T0 + 9)]

    judged = judge(evidence)

    assert judged.status is Status.INCONCLUSIVE
    assert "200 ms late" in judged.reason


def test_a_client_without_a_processor_left_is_inconclusive() -> None:
    evidence = honest_sale()
    evidence.records.append(Record(PROCESSOR, "", 0, T0, T0, T0 + 1, 100))

    assert judge(evidence).status is Status.INCONCLUSIVE


def test_a_client_that_was_not_there_at_the_opening_is_inconclusive() -> None:
    """It started while others were buying: what it saw was no spike."""
    evidence = honest_sale()
    evidence.records[:] = [each for each in evidence.records if each.kind != METRONOME]
    evidence.records.append(Record(METRONOME, "", 0, T0 + 2, T0 + 2, T0 + 2, 0))

    assert judge(evidence).reason.startswith("the client was there only 2.0 s after the opening")


def test_no_client_can_excuse_a_broken_promise() -> None:
    """Too slow a client measures nothing, and yet saw that something was sold twice."""
    evidence = honest_sale()
    evidence.records += late_beats(0.2)
    oversold(evidence)

    assert judge(evidence).status is Status.FAIL


def test_a_slow_shop_misses_its_bar() -> None:
    """Every promise kept, and an answer that came after a second."""
    evidence = honest_sale()
    evidence.records.append(record("buy", EVE, 1.0, 409, "SOLD_OUT")._replace(done=T0 + 2))

    judged = judge(evidence)

    assert judged.status is Status.FAIL
    assert judged.reason.startswith("buy, p99: 1000 ms")


def test_a_shop_that_does_not_answer_misses_its_bar() -> None:
    """One page in thirty never came: what was never answered has no latency, and must not look fast."""
    evidence = honest_sale()
    evidence.records.append(record("page", EVE, 1.0, 0)._replace(done=T0 + 3))

    judged = judge(evidence)

    assert judged.status is Status.FAIL
    assert judged.reason.startswith("requests without an answer")


def test_without_a_look_at_the_stores_only_the_outside_is_judged() -> None:
    """Somebody's shop on another machine: what only its stores know is not called kept."""
    evidence = honest_sale()
    evidence.books = evidence.samples = None

    judged = judge(evidence)

    assert judged.status is Status.PASS
    assert [finding.word for finding in judged.findings].count("not judged") == 13
    assert "not judged  4  every RESERVED is recorded or told" in verdict.text(judged)


def test_evidence_that_was_written_is_judged_the_same(tmp_path: Path) -> None:
    evidence = honest_sale()
    released_twice(evidence)

    evidence.write(tmp_path)

    assert judge(Evidence.read(tmp_path)) == judge(evidence)


def test_a_report_says_it_in_words_numbers_and_pictures(tmp_path: Path) -> None:
    evidence = honest_sale()
    the_stores_disagree(evidence)

    report.write(tmp_path, evidence, judge(evidence))

    assert (tmp_path / "report.md").read_text().startswith("# FAIL: promise 8")
    assert '"verdict": "FAIL"' in (tmp_path / "report.json").read_text()
    assert {path.name for path in tmp_path.glob("*.svg")} == {"requests.svg", "latency.svg", "stock.svg"}

"""Before T0: the shelf and the caches of a sale are filled, step by step, and staff see how far it is."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Any

import pytest
import redis
from celery.exceptions import OperationalError
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client
from django.urls import reverse

from inventory import _keys, stock
from resilience.cache.away import TierAway
from shop import catalog, celery, opening, preheating, tasks
from shop.models import Offer, Sale
from tests.conftest import AN_HOUR
from tests.crowd import eventually

MakeSale = Callable[..., Sale]

#: The task queue of the broker, where Celery keeps what no worker has taken.
QUEUE = "default"

STEPS = [
    "1 of 7: stock on the shelf of Redis",
    "2 of 7: facts",
    "3 of 7: counters",
    "4 of 7: page in English",
    "5 of 7: page in Simplified Chinese",
    "6 of 7: front page in English",
    "7 of 7: front page in Simplified Chinese",
]


@pytest.fixture
def staff(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def asked() -> Iterator[Callable[[Sale], int]]:
    """How many tasks to preheat a sale wait for a worker."""
    with celery.app.connection() as broker:

        def count(sale: Sale) -> int:
            waiting = [json.loads(task)["headers"] for task in broker.default_channel.client.lrange(QUEUE, 0, -1)]
            return len([task for task in waiting if task["task"] == "shop.preheat" and sale.slug in task["argsrepr"]])

        yield count


def redis_answers() -> bool:
    """The cache's: its breaker lets somebody try again some time after it was away."""
    cache: Any = caches["default"]
    with suppress(TierAway):
        cache.ask_redis()
        return True
    return False


def page_of(staff: Client, sale: Sale) -> str:
    return str(staff.get(reverse("admin:shop_sale_change", args=[sale.pk])).content.decode())


def preheat_by_admin(staff: Client, sale: Sale) -> list[str]:
    fields = {"action": "preheat", "_selected_action": [sale.pk], "confirmed": "yes"}
    answer = staff.post(reverse("admin:shop_sale_changelist"), fields, follow=True)
    return [str(message) for message in answer.context["messages"]]


def test_a_process_that_starts_after_it_needs_no_query(
    sale: Sale, client: Client, django_assert_num_queries: Callable[[int], Any]
) -> None:
    """Each step says what it did; whoever comes then, with an empty memory, finds it all in the shared caches."""
    assert preheating.run(sale) == STEPS

    caches["default"].stack.forget_all()  # type: ignore[attr-defined]

    with django_assert_num_queries(0):
        for path in ("/", f"/sales/{sale.slug}/"):
            for language in ("en", "zh-hans"):
                assert client.get(path, headers={"accept-language": language}).status_code == 200
        assert client.get(f"/sales/{sale.slug}/state").json()["phase"] == "open"


def test_it_is_safe_to_repeat(sale: Sale, offer: Offer) -> None:
    """The shelf keeps what it has, and the caches what is true: nobody waits for facts that were there already."""
    memory = caches["default"].stack.memory  # type: ignore[attr-defined]
    preheating.run(sale)
    before = stock.levels([offer.pk]), memory.find(catalog.facts_key(sale.slug))

    assert preheating.run(sale) == STEPS
    assert (stock.levels([offer.pk]), memory.find(catalog.facts_key(sale.slug))) == before


def test_a_draft_is_not_preheated(make_sale: MakeSale, staff: Client, asked: Callable[[Sale], int]) -> None:
    """Nobody may see it yet: staff are told, and no worker is bothered."""
    draft = make_sale()
    Sale.objects.filter(pk=draft.pk).update(state="draft")
    draft.refresh_from_db()

    with pytest.raises(opening.NotPossible):
        preheating.run(draft)

    assert preheat_by_admin(staff, draft) == [f"{draft.slug} is draft: schedule it first"]
    assert asked(draft) == 0
    assert "field-preheated" not in page_of(staff, draft)


def test_staff_ask_a_worker_and_see_how_far_it_is(sale: Sale, staff: Client, asked: Callable[[Sale], int]) -> None:
    """The action leaves a task; the page of the sale says that it was asked for, and then that it is done."""
    assert preheating.Progress.of(sale.slug) is None

    assert preheat_by_admin(staff, sale) == [f"{sale} is being preheated: its page says how far it is."]
    assert asked(sale) == 1
    assert "0 of 7: asked for" in page_of(staff, sale)

    tasks.preheat(sale.slug)
    assert "done at 20" in page_of(staff, sale)


def test_what_nobody_could_be_asked_for_was_not_asked_for(sale: Sale) -> None:
    """The broker is away: whoever asked hears it, and the page of the sale says nothing else."""

    def nobody(_slug: str) -> None:
        raise OperationalError("no broker")

    with pytest.raises(OperationalError):
        preheating.ask(sale, nobody)

    assert preheating.Progress.of(sale.slug) is None


def test_staff_see_what_went_wrong_without_stock_redis(
    sale: Sale, staff: Client, stock_redis_away: Callable[[], None]
) -> None:
    """Whoever called hears it, and the page says which step it was."""
    stock_redis_away()

    with pytest.raises(preheating.Incomplete):
        preheating.run(sale)

    assert preheating.Progress.of(sale.slug).done == 0
    assert "after 0 of 7: asked for" in page_of(staff, sale)


def test_caches_that_hang_are_no_success(sale: Sale, frozen: Callable[[str], AbstractContextManager[None]]) -> None:
    """Without cache Redis it would fill the memory of one process: it says so after the shelf, and repeats well."""
    with frozen("redis-cache"), pytest.raises(preheating.Incomplete):
        preheating.run(sale)
    assert preheating.Progress.of(sale.slug).done == 1

    eventually(redis_answers)
    assert preheating.run(sale) == STEPS


def test_sales_are_preheated_by_themselves_just_before_they_open(make_sale: MakeSale) -> None:
    """Neither those that open later, nor those that are open, paused or drafts."""
    in_a_moment = timedelta(seconds=preheating.BEFORE_SECONDS / 2)
    due = make_sale(opens_in=in_a_moment)
    others = [
        make_sale(opens_in=AN_HOUR),
        make_sale(),
        make_sale(opens_in=in_a_moment),
        make_sale(opens_in=in_a_moment),
    ]
    opening.pause(others[2])
    Sale.objects.filter(pk=others[3].pk).update(state="draft")

    assert tasks.preheat_due() == 1

    assert preheating.Progress.of(due.slug).is_complete
    assert [preheating.Progress.of(sale.slug) for sale in others] == [None] * 4


def test_one_that_fails_does_not_stop_the_others(make_sale: MakeSale, stock_redis: redis.Redis) -> None:
    """Stock Redis lost the offer of the first one; the second is ready for its T0."""
    in_a_moment = timedelta(seconds=preheating.BEFORE_SECONDS / 2)
    lost, ready = make_sale(opens_in=in_a_moment), make_sale(opens_in=in_a_moment)
    stock_redis.delete(_keys.units(lost.offers.get().pk))

    assert tasks.preheat_due() == 1

    assert preheating.Progress.of(lost.slug).failure
    assert preheating.Progress.of(ready.slug).is_complete


def test_reads_are_counted_for_each_sale(make_sale: MakeSale, client: Client, staff: Client) -> None:
    """Staff see them on its page."""
    sale, other = make_sale(), make_sale()
    cache: Any = caches["default"]
    for _ in range(3):
        client.get(f"/sales/{sale.slug}/")

    counted = cache.tally(f"sale:{sale.slug}")
    assert counted["loads"] == 3  # facts, counters, page
    assert cache.tally(f"sale:{other.slug}")["loads"] == 0
    assert "loads 3" in page_of(staff, sale)
    assert "loads" not in page_of(staff, other).partition("field-cache_reads")[2]

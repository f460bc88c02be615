"""Who is it: the buyer cookie, its life, and how it ends early."""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from resilience.clock import now_ms
from shop import buyers
from shop.models import Sale
from shop.seals import Seal
from tests.crowd import eventually
from tests.shop import clicks


def cookie_of_age(seconds: float, buyer_id: int, device: bytes = b"a device") -> str:
    """A cookie that was given out that long ago."""
    return Seal(b"b", "Q8sQ", settings.BUYER_KEYS).close(buyer_id, device, now_ms() - int(seconds * 1000))


@pytest.fixture
def user(transactional_db: None) -> User:
    return User.objects.create(username=f"buyer-{secrets.token_hex(4)}")


def test_a_cookie_says_who_it_is(user: User) -> None:
    """The id and the device's nonce come back, and each device has another nonce."""
    first, second = buyers.read(buyers.cookie_for(user.pk)), buyers.read(buyers.cookie_for(user.pk))

    assert first
    assert second
    assert first.id == second.id == user.pk
    assert first.device != second.device


def test_a_cookie_dies_of_age(user: User) -> None:
    """Good to its last second and not beyond."""
    almost, over = settings.BUYER_COOKIE_SECONDS - 5, settings.BUYER_COOKIE_SECONDS + 1

    assert buyers.read(cookie_of_age(almost, user.pk))
    assert buyers.read(cookie_of_age(over, user.pk)) is None


def test_a_dead_cookie_is_a_stranger(user: User, client: Client, sale: Sale) -> None:
    """A page answers an old or forged cookie like none at all."""
    for value in (cookie_of_age(settings.BUYER_COOKIE_SECONDS + 1, user.pk), "x" * 60, "", "é", "a" * 3000):
        client.cookies[buyers.COOKIE] = value
        assert clicks.send(client, f"/sales/{sale.slug}/ticket").json()["outcome"] == "SIGN_IN"
        assert client.get(f"/sales/{sale.slug}/mine").json()["signed_in"] is False


def test_a_switched_off_account_is_signed_out(user: User) -> None:
    """Once its name is on the list its cookies are worth nothing, and they are good again when it is off it."""
    cookie = buyers.cookie_for(user.pk)
    User.objects.filter(pk=user.pk).update(is_active=False)
    buyers.revocations.refresh()
    assert buyers.read(cookie) is None

    User.objects.filter(pk=user.pk).update(is_active=True)
    buyers.revocations.refresh()
    assert buyers.read(cookie)


def test_the_list_is_renewed_by_itself(user: User) -> None:
    """Nobody has to ask for it: reading cookies is enough, and no reader waits for PostgreSQL."""
    cookie = buyers.cookie_for(user.pk)
    User.objects.filter(pk=user.pk).update(is_active=False)

    eventually(lambda: buyers.read(cookie) is None)


def test_the_last_list_stays_when_postgresql_hangs(
    user: User, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """Whoever was revoked stays so, the others stay signed in, and none of them waits."""
    honest = User.objects.create(username=f"honest-{user.pk}")
    User.objects.filter(pk=user.pk).update(is_active=False)
    buyers.revocations.refresh()

    with frozen("postgresql"):
        buyers.revocations._asked_at = float("-inf")  # as if a second had passed
        began = now_ms()
        assert buyers.read(buyers.cookie_for(user.pk)) is None
        assert buyers.read(buyers.cookie_for(honest.pk))
        assert now_ms() - began < 500


def test_a_ticket_renews_a_cookie_past_half_its_life(user: User, client: Client, sale: Sale) -> None:
    """The new cookie is a full life long and of the same device, so that the ticket of the old one stays good."""
    client.cookies[buyers.COOKIE] = old = cookie_of_age(settings.BUYER_COOKIE_SECONDS / 2 + 60, user.pk)

    answer = clicks.send(client, f"/sales/{sale.slug}/ticket")

    morsel = answer.cookies[buyers.COOKIE]
    before, after = buyers.read(old), buyers.read(morsel.value)
    assert before
    assert after
    assert (after.id, after.device) == (before.id, before.device)
    assert not after.past_half_its_life
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/")
    assert clicks.buy(client, sale, answer.json()["ticket"]).status_code == 202


def test_a_young_cookie_is_left_alone(user: User, client: Client, sale: Sale) -> None:
    """Before half its life no answer sets it again."""
    client.cookies[buyers.COOKIE] = cookie_of_age(settings.BUYER_COOKIE_SECONDS / 2 - 60, user.pk)

    assert buyers.COOKIE not in clicks.send(client, f"/sales/{sale.slug}/ticket").cookies

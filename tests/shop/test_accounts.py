"""Signing in, up and out: Django's session for staff pages, the buyer cookie for everything else, both at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test import Client

from shop import buyers
from shop.models import Sale
from tests.crowd import at_once, eventually
from tests.shop import clicks
from tests.shop.clicks import PAGE

PASSWORD = "seven-winds-blow"

FOREIGN = [
    *("https://evil.example/", "//evil.example/", "///evil.example", "http:///evil.example", "\\\\evil.example"),
    *("javascript:alert(1)", "https://testserver@evil.example", "/\\evil.example", "\x00//evil.example", "ht\ntp://x/"),
]


@pytest.fixture
def user(transactional_db: None) -> User:
    return User.objects.create_user("mallory", password=PASSWORD)


@pytest.fixture
def session_update(transactional_db: None) -> Iterator[Callable[[str], None]]:
    """Says, in PL/pgSQL, what PostgreSQL does when a session that there is already is written."""

    def becomes(statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION pg_temp.instead() RETURNS trigger LANGUAGE plpgsql"
                f" AS $$ BEGIN {statement}; RETURN NEW; END $$"
            )
            cursor.execute(
                "CREATE TRIGGER instead BEFORE UPDATE ON django_session FOR EACH ROW EXECUTE FUNCTION pg_temp.instead()"
            )

    yield becomes
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION IF EXISTS pg_temp.instead() CASCADE")


def buyer_of(client: Client) -> int | None:
    """Whose buyer cookie the browser has."""
    cookie = client.cookies.get(buyers.COOKIE)
    found = buyers.read(cookie.value) if cookie else None
    return found.id if found else None


def sign_in(client: Client, next_url: str = "", **fields: str) -> Any:
    return client.post(
        "/accounts/login/", {"username": "mallory", "password": PASSWORD, "next": next_url, **fields}, headers=PAGE
    )


def sign_up(client: Client, name: str, password: str = PASSWORD, **fields: str) -> Any:
    fields = {"username": name, "password1": password, "password2": password, **fields}
    return client.post("/accounts/signup/", fields, headers=PAGE)


def test_signing_in_opens_both_doors(user: User, client: Client) -> None:
    """A session for staff pages, and a buyer cookie that no script can read and no other site can send."""
    answer = sign_in(client, "/orders/")

    assert (answer.status_code, answer["Location"]) == (302, "/orders/")
    assert client.session["_auth_user_id"] == str(user.pk)
    assert buyer_of(client) == user.pk
    morsel = answer.cookies[buyers.COOKIE]
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/")
    assert morsel["max-age"] == settings.BUYER_COOKIE_SECONDS


def test_the_form_keeps_where_the_shopper_was(user: User, client: Client, sale: Sale) -> None:
    """From the sale to the form and back to the sale, signed in; and on to the other form with it."""
    led = client.post(f"/sales/{sale.slug}/ticket", headers=PAGE)
    form = client.get(led["Location"], headers=PAGE)
    assert f'name="next" value="/sales/{sale.slug}/"' in form.content.decode()
    assert f'href="/accounts/signup/?next=/sales/{sale.slug}/"' in form.content.decode()

    assert sign_in(client, f"/sales/{sale.slug}/")["Location"] == f"/sales/{sale.slug}/"
    assert clicks.buy(client, sale).status_code == 202


@pytest.mark.parametrize(
    ("what_happens", "said"),
    [("RAISE 'going down' USING ERRCODE = '57P01'", (503, "Back soon")), ("RETURN NULL", (400, "makes no sense"))],
    ids=["PostgreSQL goes away", "somebody deletes the session"],
)
def test_a_session_that_cannot_be_written(
    user: User, client: Client, session_update: Callable[[str], None], what_happens: str, said: tuple[int, str]
) -> None:
    """The password was right and the view has ended: why nobody is signed in is said as it is."""
    session_update(what_happens)

    answer = sign_in(client)

    assert answer.status_code == said[0]
    assert said[1] in answer.content.decode()
    assert buyer_of(client) is None


@pytest.mark.parametrize("https", [True, False])
def test_the_cookie_is_secure_behind_https(user: User, client: Client, settings: Any, https: bool) -> None:
    """TLS ends at the edge, so the setting decides."""
    settings.HTTPS = https

    assert bool(sign_in(client).cookies[buyers.COOKIE]["secure"]) is https


@pytest.mark.parametrize("foreign", FOREIGN)
def test_nobody_is_led_elsewhere(user: User, client: Client, foreign: str) -> None:
    """A `next` that leaves the shop is forgotten, after signing in and after signing up, by form and by address."""
    assert sign_in(client, foreign)["Location"] == "/"
    assert sign_up(Client(), "newcomer", next=foreign)["Location"] == "/"
    fields = {"username": "another", "password1": PASSWORD, "password2": PASSWORD}
    assert Client().post("/accounts/signup/", fields, query_params={"next": foreign})["Location"] == "/"


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "wrong"},
        {"username": "nobody"},
        {"username": ""},
        {"username": "mallory\0"},
        {"password": "\0"},
        {"username": "m" * 10_000},
        {"password": "p" * 100_000},
        {"username": "‮mallory"},
    ],
)
def test_a_wrong_password_opens_nothing(user: User, client: Client, fields: dict[str, str]) -> None:
    """The form again, with one sentence for all reasons; no cookie and no session."""
    answer = sign_in(client, **fields)

    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert buyer_of(client) is None
    assert "sessionid" not in client.cookies


def test_a_switched_off_account_stays_out(user: User, client: Client) -> None:
    """Even with the right password."""
    User.objects.filter(pk=user.pk).update(is_active=False)

    assert sign_in(client).status_code == 200
    assert buyer_of(client) is None


def test_signing_in_changes_the_session(user: User, client: Client) -> None:
    """A session that was planted in somebody's browser is not the one they end up with."""
    client.session["planted"] = True
    session = client.session
    session["planted"] = True
    session.save()
    client.cookies["sessionid"] = session.session_key or ""

    sign_in(client)

    assert client.session.session_key != session.session_key


def test_signing_up_opens_both_doors(client: Client, sale: Sale) -> None:
    """A new account is signed in at once and brought back, and can buy."""
    answer = sign_up(client, "newcomer", next=f"/sales/{sale.slug}/")

    newcomer = User.objects.get(username="newcomer")
    assert (answer.status_code, answer["Location"]) == (303, f"/sales/{sale.slug}/")
    assert client.session["_auth_user_id"] == str(newcomer.pk)
    assert buyer_of(client) == newcomer.pk
    assert not newcomer.is_staff
    assert newcomer.check_password(PASSWORD)
    assert clicks.buy(client, sale).status_code == 202


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("newcomer", {"password1": "short", "password2": "short"}),
        ("newcomer", {"password1": "password", "password2": "password"}),
        ("newcomer", {"password1": "newcomer1", "password2": "newcomer1"}),
        ("newcomer", {"password2": "another"}),
        ("newcomer", {"password1": "", "password2": ""}),
        ("mallory", {}),
        ("", {}),
        ("new comer", {}),
        ("n" * 151, {}),
        ("new\0comer", {}),
        ("‮", {}),
        ("<script>", {}),
    ],
)
def test_a_weak_sign_up_is_refused(user: User, client: Client, name: str, fields: dict[str, str]) -> None:
    """A weak or mistyped password, a name that is taken or no name: the form again, and no account."""
    answer = sign_up(client, name, **fields)

    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert User.objects.count() == 1
    assert buyer_of(client) is None


def test_an_empty_sign_up_is_refused(client: Client, transactional_db: None) -> None:
    """A form sent without a field says what is missing."""
    assert "errorlist" in client.post("/accounts/signup/", headers=PAGE).content.decode()


def test_staff_are_not_made_by_a_form(client: Client, transactional_db: None) -> None:
    """Fields that the form does not have are not taken."""
    sign_up(client, "newcomer", is_staff="1", is_superuser="1", id="1")

    newcomer = User.objects.get(username="newcomer")
    assert (newcomer.is_staff, newcomer.is_superuser) == (False, False)
    assert client.get("/admin/").status_code == 302


def test_one_name_is_taken_once(transactional_db: None) -> None:
    """Eight people who want the same name in the same moment: one has it, the others see the form again."""
    answers = at_once([Client() for _ in range(8)], lambda client: sign_up(client, "popular"))

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [303]
    assert User.objects.filter(username="popular").count() == 1


def test_a_name_that_is_taken_in_the_last_moment(transactional_db: None) -> None:
    """The form found it free, PostgreSQL does not: the form again, with the same sentence as for any taken name."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            User.objects.create(username="popular")
            late = pool.submit(at_once, [Client()], lambda client: sign_up(client, "popular"))
            eventually(_somebody_waits_for_a_lock)
        [answer] = late.result()

    assert answer.status_code == 200
    assert "A user with that username already exists." in answer.content.decode()


def _somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])


def test_signing_out_closes_both_doors(user: User, client: Client) -> None:
    """The session is gone from the server, the cookie from the browser, and orders ask who it is."""
    sign_in(client)

    answer = client.post("/accounts/logout/", headers=PAGE)

    assert (answer.status_code, answer["Location"]) == (303, "/")
    assert client.cookies[buyers.COOKIE].value == ""
    assert client.cookies[buyers.COOKIE]["max-age"] == 0
    assert Session.objects.count() == 0
    assert client.get("/orders/", headers=PAGE)["Location"] == "/accounts/login/?next=/orders/"


def test_a_link_signs_nobody_out(user: User, client: Client) -> None:
    """An image in a foreign page that points at the sign-out does nothing: by POST only, and from here only. A look at
    the address leads to the button, as the way back from a refused press does."""
    sign_in(client)

    assert client.get("/accounts/logout/", headers=PAGE)["Location"] == "/orders/"
    assert client.post("/accounts/logout/", headers={"origin": "https://evil.example"}).status_code == 403
    assert buyer_of(client) == user.pk


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/signup/"])
def test_the_forms_carry_a_token(user: User, path: str) -> None:
    """Without it nobody is signed in by a page of somebody else's; with it they are."""
    browser = Client(enforce_csrf_checks=True)
    fields = {"username": "mallory", "password": PASSWORD, "password1": PASSWORD, "password2": PASSWORD}
    fields["username"] = "mallory" if "login" in path else "newcomer"
    assert browser.post(path, fields, headers=PAGE).status_code == 403

    page = browser.get(path, headers=PAGE).content.decode()
    token = page.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    answer = browser.post(path, {**fields, "csrfmiddlewaretoken": token}, headers=PAGE)
    assert answer.status_code in (302, 303)


def test_shopper_pages_never_touch_the_session(
    sale: Sale, shopper: Client, django_assert_num_queries: Callable[[int], Any]
) -> None:
    """A browser with a session in its cookies costs no query for it on the way to a reservation."""
    shopper.cookies["sessionid"] = "a" * 32
    shopper.get(f"/sales/{sale.slug}/state")
    shopper.get("/")

    with django_assert_num_queries(0):
        held = clicks.hold(shopper, sale)
        assert shopper.get(held["status_url"], headers=PAGE).status_code == 200
        assert "sessionid" not in shopper.get("/", headers=PAGE).cookies

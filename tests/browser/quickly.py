"""What others do in a sale while somebody watches it: without a window, and quickly."""

from tests.crowd import eventually
from tests.stories.browser import Browser


def reserve(buyer: Browser, slug: str) -> str:
    """Answers where the reservation's status is told."""
    ticket = buyer.send(f"/sales/{slug}/ticket").json()
    click = buyer.send(f"/sales/{slug}/buy", units=1, ticket=ticket.get("ticket", ticket)).json()
    assert click["outcome"] == "RESERVED", click
    return str(click["status_url"])


def order(buyer: Browser, slug: str) -> str:
    """Answers the address of the order, once it is placed."""
    status_url = reserve(buyer, slug)
    return str(eventually(lambda: buyer.ask(status_url)["order_url"]))


def pay(buyer: Browser, order_url: str) -> None:
    page = buyer.get(buyer.send(f"{order_url}pay").json()["pay_url"])
    buyer.submit(page.form(""), action="pay")


def has_state(buyer: Browser, order_url: str, state: str) -> bool:
    return bool(buyer.ask(order_url)["order"]["state"] == state)

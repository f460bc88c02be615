"""The buyer's orders: look, pay, cancel. Somebody else's order does not exist."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext

from shop import answers, buyers, levels, limits, payments, provider
from shop import orders as purchases
from shop.models import Order
from shop.views.methods import takes

#: Orders on one page; the newest first.
ORDERS_SHOWN = 100
#: Milliseconds until an order's page asks again: a payment made in another window shows up this soon.
POLL_MS = 4_000


@takes("GET")
def mine(request: HttpRequest) -> HttpResponse:
    buyer = buyers.of(request)
    if buyer is None:
        return answers.sign_in(request, request.path)
    found = Order.objects.filter(buyer_id=buyer.id).select_related("offer__product")[:ORDERS_SHOWN]
    return _show(request, "shop/orders.html", {"orders": [_facts(order) for order in found]})


@takes("GET")
def detail(request: HttpRequest, number: str) -> HttpResponse:
    buyer = buyers.of(request)
    if buyer is None:
        return answers.sign_in(request, request.path)
    order = _order(buyer, number)
    if order is None:
        return answers.answer(request, "NOT_FOUND", back_url="/orders/")
    return _show(request, "shop/order.html", {"order": _facts(order), "poll_after_ms": levels.slower(POLL_MS)})


@takes("POST")
def pay(request: HttpRequest, number: str) -> HttpResponse:
    """Lead the buyer to the provider's page."""
    buyer = buyers.of(request)
    if wait := limits.of_click(request.META, buyer):
        return answers.slow_down(request, wait, back_url=f"/orders/{number}/")
    if buyer is None:
        return answers.sign_in(request, f"/orders/{number}/")
    order = _order(buyer, number)
    if order is None:
        return answers.answer(request, "NOT_FOUND", back_url="/orders/")
    if order.state != Order.State.AWAITING_PAYMENT:
        return answers.answer(request, "NO_LONGER", back_url=f"/orders/{number}/")
    try:
        pay_url = payments.start(order)
    except provider.ProviderUnavailable:
        detail = gettext("The payment provider does not answer. Your order stays payable until its hold ends.")
        return answers.answer(request, "BACK_SOON", detail, back_url=f"/orders/{number}/")
    if answers.wants_page(request):
        return answers.see_other(pay_url)
    return JsonResponse({"pay_url": pay_url})


@takes("POST")
def cancel(request: HttpRequest, number: str) -> HttpResponse:
    """Give the units back."""
    buyer = buyers.of(request)
    if wait := limits.of_click(request.META, buyer):
        return answers.slow_down(request, wait, back_url=f"/orders/{number}/")
    if buyer is None:
        return answers.sign_in(request, f"/orders/{number}/")
    order = _order(buyer, number)
    if order is None:
        return answers.answer(request, "NOT_FOUND", back_url="/orders/")
    if not purchases.cancel(order):
        return answers.answer(request, "NO_LONGER", back_url=f"/orders/{number}/")
    if answers.wants_page(request):
        return answers.see_other(f"/orders/{number}/")
    order.refresh_from_db()
    return _show(request, "shop/order.html", {"order": _facts(order)})


def _order(buyer: buyers.Buyer, number: str) -> Order | None:
    if "\0" in number:  # PostgreSQL has no such character, and says so with an error
        return None
    return Order.objects.filter(buyer_id=buyer.id, number=number).select_related("offer__product").first()


def _show(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    page = answers.wants_page(request)
    response: HttpResponse = render(request, template, context) if page else JsonResponse(context)
    response["Cache-Control"] = "no-store"
    return response


def _facts(order: Order) -> dict[str, Any]:
    """An order as its buyer sees it; times in milliseconds."""
    awaiting = order.state == Order.State.AWAITING_PAYMENT
    return {
        "number": order.number,
        "state": order.state,
        "title": order.title,
        "picture": order.offer.product.picture,
        "units": order.units,
        "total_minor": order.total_minor,
        "currency": order.currency,
        "placed_at_ms": _ms(order.placed_at),
        "pay_until_ms": _ms(order.pay_until) if awaiting else None,
        "can_pay": awaiting,
        "can_cancel": awaiting,
        "history": _history(order),
    }


def _history(order: Order) -> list[tuple[int, str]]:
    steps = [
        (order.placed_at, gettext("Order placed")),
        (order.ended_at, order.get_state_display()),
        (order.refunded_at, gettext("Money returned")),
    ]
    return [(_ms(at), text) for at, text in steps if at]


def _ms(moment: Any) -> int:
    return int(moment.timestamp() * 1000)

"""The console of a sale: a page that draws, what it polls, and the buttons, each with a page that asks first."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from inventory.outcomes import AnswerLost, InventoryUnavailable
from shop import acts, answers, catalog, console, console_pass, export, sale_events, second_look
from shop.act_table import ACTS, Act
from shop.away import DATABASE_AWAY
from shop.models import Offer, Sale
from shop.views.methods import takes

#: Milliseconds between two polls.
POLL_MS = 1_000

#: Pages of the back office that the console leads to, and who may open them.
LEADS_TO = {"force": "shop.add_override", "resolve": "inventory.view_deadentry", "read": "shop.view_saleevent"}


@takes("GET")
def index(request: HttpRequest) -> HttpResponse:
    """The sales, those that run first; while PostgreSQL is away, those that are published."""
    if not console_pass.may_look(request):
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    found = catalog.sales()
    published = [each.slug for each in found]
    try:
        drafts = list(Sale.objects.filter(state=Sale.State.DRAFT).exclude(slug__in=published))
    except DATABASE_AWAY:
        drafts = []
    return _renewed(request, render(request, "shop/consoles.html", {"sales": found, "drafts": drafts}))


@takes("GET")
def sale(request: HttpRequest, slug: str) -> HttpResponse:
    """The frame, which is drawn by script; it needs PostgreSQL only for the buttons."""
    if not console_pass.may_look(request):
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    try:
        context = _buttons(request, get_object_or_404(_sales(), slug=slug))
    except DATABASE_AWAY:
        if not (known := catalog.facts(slug)):
            raise
        context = {"sale": known, "acts": [], "offers": []}
    return _renewed(request, render(request, "shop/console.html", {**context, "poll_ms": POLL_MS}))


def _sales() -> Any:
    return Sale.objects.prefetch_related("offers__product", "offers__stock")


def _buttons(request: HttpRequest, found: Sale) -> dict[str, Any]:
    """What this person may press at this moment."""
    may = [(name, act) for name, act in ACTS.items() if request.user.has_perm(act.permission)]
    shown = [(name, act) for name, act in may if act.is_shown(found)]
    return {
        "sale": found,
        "offers": list(found.offers.all()),
        "acts": [each for each in shown if not each[1].of_offer],
        "acts_of_offer": [each for each in shown if each[1].of_offer],
        "may": {name: request.user.has_perm(permission) for name, permission in LEADS_TO.items()},
    }


@takes("GET")
def figures(request: HttpRequest, slug: str) -> HttpResponse:
    """What has happened since the moment that the page knows. No statement of its own, and no trip to stock Redis."""
    if not console_pass.may_look(request):
        return answers.answer(request, "SIGN_IN")
    since = request.GET.get("since", "0")
    told = console.for_viewer(slug, int(since) if since.isdecimal() and len(since) < len(str(2**63)) else 0)
    response = JsonResponse(told)
    response["Cache-Control"] = "no-store"
    return _renewed(request, response)


def _renewed(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    console_pass.renew(request, response)
    return response


# --- The buttons -----------------------------------------------------------------------------------------------------


@takes("GET", "POST", token=True)
def act(request: HttpRequest, slug: str, name: str, offer_id: int | None = None) -> HttpResponseBase:
    """GET asks, POST does it; what came of it is said on the page of the sale."""
    if not (request.user.is_active and request.user.is_staff):
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    wanted = ACTS.get(name)
    if wanted is None or wanted.of_offer != (offer_id is not None):
        raise Http404
    if not request.user.has_perm(wanted.permission):
        raise PermissionDenied
    found = get_object_or_404(Sale, slug=slug)
    offer = _offer(found, offer_id)
    form = wanted.form(found, offer, *([request.POST] if request.method == "POST" else []))
    if request.method != "POST" or not form.is_valid():
        return _ask(request, name, wanted, form)
    if name == "export":
        return _file(request, found)
    heard = acts.attempt(lambda: wanted.do(form, request.user))
    messages.add_message(request, heard.level, heard.text)
    return answers.see_other(reverse("console:sale", args=[slug]))


def _offer(found: Sale, offer_id: int | None) -> Offer | None:
    if offer_id is None:
        return None
    return get_object_or_404(Offer.objects.select_related("product", "stock", "sale"), sale=found, pk=offer_id)


def _ask(request: HttpRequest, name: str, wanted: Act, form: Any) -> HttpResponse:
    context = {"sale": form.sale, "offer": form.offer, "name": name, "act": wanted, "form": form}
    if name == "reconcile":
        try:
            look = second_look.look(form.sale)
        except (InventoryUnavailable, AnswerLost) as away:
            return answers.answer(request, "UNAVAILABLE", str(away))
        form.initial["looked"] = look.signed
        context["lines"] = look.lines
    return render(request, "shop/console_act.html", context, status=400 if form.errors else 200)


def _file(request: HttpRequest, found: Sale) -> StreamingHttpResponse:
    sale_events.by_staff(request.user, "export", found.slug)
    response = StreamingHttpResponse(export.rows(found), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="orders-{found.slug}.csv"'
    response["Cache-Control"] = "no-store"
    return response

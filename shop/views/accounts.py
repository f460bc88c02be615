"""Signing in and out. Both doors are kept: Django's session for staff pages, the `buyer` cookie for everything else."""

from typing import Any

from django.conf import settings
from django.contrib.auth import login, logout
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.views import LoginView
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.csrf import csrf_exempt
from django.views.i18n import set_language

from shop import answers, buyers, levels, limits
from shop.views.methods import takes


@method_decorator(takes("GET", "POST", token=True), name="dispatch")
class SignIn(LoginView):
    """Django's own form and checks; what it adds is the buyer cookie."""

    redirect_authenticated_user = False

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if wait := limits.of_sign_in(request.META, request.POST.get("username", "")):
            return answers.slow_down(request, wait, back_url=request.get_full_path())
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: object) -> HttpResponse:
        response = super().form_valid(form)  # type: ignore[arg-type]
        buyers.remember(response, int(self.request.user.pk or 0))
        return response

    def get_context_data(self, **kwargs: object) -> dict[str, object]:
        return {**super().get_context_data(**kwargs), "demo_hint": settings.PROFILE == "local"}


@takes("GET", "POST", token=True)
def sign_up(request: HttpRequest) -> HttpResponse:
    """A new account costs a slow hash: who has one already comes first."""
    if not levels.SIGN_UP.is_on():
        return answers.answer(request, "BACK_SOON", back_url="/", retry_seconds=levels.BACK_SECONDS)
    if request.method == "POST" and (wait := limits.of_sign_up(request.META)):
        return answers.slow_down(request, wait, back_url=request.get_full_path())
    form: UserCreationForm[Any] = UserCreationForm(request.POST if request.method == "POST" else None)
    user = _made(form) if form.is_valid() else None
    if user:
        login(request, user)
        response = answers.see_other(_next(request))
        buyers.remember(response, user.pk)
        return response
    return render(request, "registration/signup.html", {"form": form, "next": _next(request)})


def _made(form: "UserCreationForm[Any]") -> Any:
    """The new user; None when somebody else took the name since the form looked."""
    try:
        return form.save()
    except IntegrityError:
        form.add_error("username", form.instance.unique_error_message(type(form.instance), ("username",)))
        return None


def _next(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    return wanted if url_has_allowed_host_and_scheme(wanted, {request.get_host()}) else "/"


@takes("GET", "POST")
def sign_out(request: HttpRequest) -> HttpResponse:
    """By POST. A look signs nobody out and leads to where the button is: a busy shop sends there whoever pressed it."""
    if request.method != "POST":
        return answers.see_other("/orders/")
    logout(request)
    response = answers.see_other("/")
    buyers.forget(response)
    return response


#: Anybody may choose a language, also from a page that carries no token.
language = csrf_exempt(set_language)

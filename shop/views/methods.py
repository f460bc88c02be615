"""Which methods an address takes, said in the shop's own words."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from shop import answers

View = Callable[..., HttpResponseBase]


def takes(*methods: str, token: bool = False) -> Callable[[View], View]:
    """Answer METHOD to other methods.

    Django's CSRF token is asked for only where a form carries one: `ForeignPostRefusal` has looked at where the request
    comes from, and a page that is the same bytes for everybody cannot carry one.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            allowed = (*methods, "HEAD") if "GET" in methods else methods
            if request.method not in allowed:
                response = answers.answer(request, "METHOD")
                response["Allow"] = ", ".join(allowed)
                return response
            return view(request, *args, **kwargs)

        return guarded if token else csrf_exempt(guarded)

    return decorate

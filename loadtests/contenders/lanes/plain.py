"""The least that granian and Django can be asked for: a constant, and the same by a view without middleware."""

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

HELLO = b"hello"
_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))]


def hello(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", _HEADERS)
    return [HELLO]


def django() -> Callable[..., Iterable[bytes]]:
    """The application; its settings are its own, so it is made in a process of its own."""
    settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="of nothing", MIDDLEWARE=[])
    return get_wsgi_application()


def say_hello(_: HttpRequest) -> HttpResponse:
    return HttpResponse(HELLO, content_type="text/plain")


urlpatterns = [path("", say_hello), path("livez", say_hello)]

"""Views that both doors know: Django's, and the express lane's, which calls them without Django.

    @hot("POST")
    def buy(asked: Asked, slug: str) -> Reply: ...

So there is one place that decides and one that words it, and the lanes cannot differ in either.
"""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.http import HttpRequest, HttpResponse

from shop import words
from shop.asked import Asked
from shop.away import DATABASE_AWAY
from shop.replies import Reply

Decide = Callable[..., Reply]


class Hot:
    """A Django view; `reply` is what it comes to for whoever asks."""

    #: Django asks for no token of its own: `ForeignPostRefusal` has looked at where the request comes from.
    csrf_exempt = True

    def __init__(self, decide: Decide, methods: tuple[str, ...]) -> None:
        self._decide = decide
        self.methods = (*methods, "HEAD") if "GET" in methods else methods
        update_wrapper(self, decide)  # Django names a view by these

    def __call__(self, request: HttpRequest, **parts: Any) -> HttpResponse:
        return self.reply(Asked.of(request), **parts).for_django()

    def reply(self, asked: Asked, **parts: Any) -> Reply:
        """METHOD for other methods; BACK_SOON when PostgreSQL, which the view needs, is away."""
        if asked.environ["REQUEST_METHOD"] not in self.methods:
            refused = words.reply(asked, "METHOD")
            refused.headers.append(("Allow", ", ".join(self.methods)))
            return refused
        try:
            return self._decide(asked, **parts)
        except DATABASE_AWAY:
            return words.reply(asked, "BACK_SOON")


def hot(*methods: str) -> Callable[[Decide], Hot]:
    return lambda decide: Hot(decide, methods)

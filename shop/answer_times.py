"""How long answers take, by view, method and status: the outermost middleware of one lane, and a call of the other."""

import logging
import time
from collections.abc import Callable
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from resilience.counting import OftenHistogram
from resilience.metrics import ANSWERS

#: Methods that are told apart; a client may invent others.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Bound children that are kept: more than views, methods and statuses that meet.
CHILDREN_MAXIMUM = 1_024

logger = logging.getLogger(__name__)


class AnswerTimes:
    """Observes what Django answers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        response = self.get_response(request)
        observe(_view(request), request.method or "", response.status_code, time.perf_counter() - started)
        return response


def observe(view: str, method: str, status: int, seconds: float) -> None:
    """Never raises: an answer is worth more than its number."""
    try:
        times_of(view, method, status).observe(seconds)
    except Exception:
        logger.exception("an answer was not counted")


def _view(request: HttpRequest) -> str:
    """Its name in `urls.py`; none for an address that is not there."""
    match = request.resolver_match
    return match.view_name if match else "none"


@lru_cache(CHILDREN_MAXIMUM)
def times_of(view: str, method: str, status: int) -> OftenHistogram:
    return ANSWERS.labels(settings.LANE, view, method if method in METHODS else "other", str(status))

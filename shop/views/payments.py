"""Where the payment provider calls back."""

import logging

from django.http import HttpRequest, HttpResponse, JsonResponse

from shop import answers, payments, provider, wishes
from shop.asked import Asked
from shop.views.methods import takes

logger = logging.getLogger(__name__)


@takes("POST")
def callback(request: HttpRequest) -> HttpResponse:
    """200 once the event is safe in PostgreSQL, also when it was there before; anything else makes it come again."""
    try:
        raw = wishes.whole_body(Asked.of(request), provider.CALLBACK_MAXIMUM)
        payments.handle_callback(raw, request.headers.get("X-Signature", ""))
    except wishes.BadWish as bad:
        return answers.answer(request, bad.word)
    except payments.CallbackRefused as refused:
        logger.warning("a payment callback was refused: %s", refused)
        return answers.answer(request, "INVALID", str(refused))
    return JsonResponse({"outcome": "RECEIVED"})

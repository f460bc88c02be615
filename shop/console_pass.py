"""Who may look at a console: staff, by their session, and by a signed pass between two looks at it.

A console polls each second and outlives PostgreSQL, which has the sessions: the pass says who was allowed when it was
last asked, so that a poll needs no statement, and that a console which is open stays open while PostgreSQL is away. It
lets nobody do anything.
"""

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

from shop.away import DATABASE_AWAY

COOKIE = "console"
PATH = "/admin/console/"
#: Seconds for which a pass is believed without asking: whoever is no longer staff looks on for so long.
BELIEVED_SECONDS = 60
#: Seconds that a pass lasts while nobody can be asked: longer than an outage that is watched from one chair.
LASTS_SECONDS = 1_800
_SALT = "shop.console_pass"


def may_look(request: HttpRequest) -> bool:
    """Asks PostgreSQL once a minute; while it is away, the pass counts. Raises what that raises when there is none."""
    if _has_pass(request, BELIEVED_SECONDS):
        return True
    try:
        return request.user.is_active and request.user.is_staff and request.user.has_perm("shop.view_sale")
    except DATABASE_AWAY:
        if _has_pass(request, LASTS_SECONDS):
            return True
        raise


def _has_pass(request: HttpRequest, seconds: int) -> bool:
    try:
        signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=seconds)
    except signing.BadSignature:
        return False
    return True


def renew(request: HttpRequest, response: HttpResponse) -> None:
    """For whoever was just found to be allowed: a new pass, unless the one there is was believed, or nobody could be
    asked."""
    if _has_pass(request, BELIEVED_SECONDS) or not _was_asked(request):
        return
    response.set_cookie(
        COOKIE,
        signing.dumps(request.user.pk, salt=_SALT),
        max_age=LASTS_SECONDS,
        path=PATH,
        secure=settings.HTTPS,
        httponly=True,
        samesite="Strict",
    )


def _was_asked(request: HttpRequest) -> bool:
    try:
        return request.user.is_authenticated
    except DATABASE_AWAY:
        return False

"""A page that asks before an action of a list is done, as Django's own does before it deletes."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse


def unless_confirmed(page: admin.ModelAdmin, request: HttpRequest, rows: Sequence[Any]) -> TemplateResponse | None:
    """The page that names the rows and what will be done to them; None once somebody has said yes, or without rows."""
    if not rows or "confirmed" in request.POST:
        return None
    name = request.POST["action"]
    asks = {"title": dict(page.get_action_choices(request, []))[name], "action": name, "rows": rows, "opts": page.opts}
    return TemplateResponse(request, "admin/shop/confirm_act.html", {**page.admin_site.each_context(request), **asks})

"""Pages of which nearly everything is the same for everybody: rendered once, with holes for what is somebody's own.

    stencils.draw("shop/waiting.html", "en", shared={"state": "held"}, own={"reservation": "7-xb..."})

A template takes half a millisecond, a stencil some microseconds. What is `own` may be printed by the template and
nothing else: it is a hole while the template is rendered, so no filter and no `if` can know what will be in it.
"""

import re
from collections.abc import Hashable
from functools import lru_cache
from typing import Any

from django.template.loader import render_to_string
from django.utils import translation
from django.utils.html import conditional_escape

#: Kinds of pages that a process keeps: a few templates, in each language, for the sales and counters of a moment.
STENCILS_KEPT = 512
#: Characters that no text of ours contains, around the name of what belongs there.
_BEGIN, _END = "\ue000", "\ue001"
_HOLE = re.compile(f"{_BEGIN}([a-z0-9_]+){_END}")


def draw(template: str, language: str, shared: dict[str, Hashable], own: dict[str, str]) -> bytes:
    """The page in that language. Own values are escaped unless they are marked as safe."""
    parts = _cut(template, language, tuple(shared.items()), tuple(own))
    filled = [str(conditional_escape(own[part])) if at % 2 else part for at, part in enumerate(parts)]
    return "".join(filled).encode()


def hole(name: str) -> str:
    """What stands for an own value while the page is rendered: for shared values that contain one."""
    return f"{_BEGIN}{name}{_END}"


@lru_cache(STENCILS_KEPT)
def _cut(template: str, language: str, shared: tuple[tuple[str, Any], ...], own: tuple[str, ...]) -> list[str]:
    """Text and names of holes in turn, text first."""
    holes = {name: hole(name) for name in own}
    with translation.override(language):
        return _HOLE.split(render_to_string(template, {**dict(shared), **holes}))

"""How large a product's picture is, so that a page keeps its place free before it has come."""

import re
import struct
from pathlib import Path

from django.contrib.staticfiles import finders

#: Of a picture whose file does not say: the shape that the pages give to all of them.
USUAL = (480, 360)
#: Bytes from the beginning of a file within which it says how large it is.
HEAD_BYTES = 1_024

_SVG = re.compile(rb"<svg\b[^>]*>")
_SVG_SIDES = {side: re.compile(rb'\s%b="(\d{1,5})(?:px)?"' % side) for side in (b"width", b"height")}
_PNG = re.compile(rb"\A\x89PNG\r\n\x1a\n.{4}IHDR(.{8})", re.DOTALL)


def size_of(picture: str) -> tuple[int, int]:
    """Width and height in pixels of a picture below static/, an SVG or a PNG; the usual ones of any other."""
    found = finders.find(picture) if picture else None
    if not found or not Path(found).is_file():
        return USUAL
    with Path(found).open("rb") as file:
        head = file.read(HEAD_BYTES)
    return _of_png(head) or _of_svg(head) or USUAL


def _of_png(head: bytes) -> tuple[int, int] | None:
    header = _PNG.match(head)
    return struct.unpack(">II", header[1]) if header else None


def _of_svg(head: bytes) -> tuple[int, int] | None:
    opening = _SVG.search(head)
    sides = [pattern.search(opening[0]) for pattern in _SVG_SIDES.values()] if opening else []
    return (int(sides[0][1]), int(sides[1][1])) if len(sides) == 2 and sides[0] and sides[1] else None

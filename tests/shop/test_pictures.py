"""How large a picture is, read from the file itself."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from shop import pictures
from shop.models import Sale

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 640, 427) + b"\x08\x02\x00\x00\x00"


@pytest.fixture
def put(tmp_path: Path, settings: Settings) -> Callable[[str, bytes], str]:
    """Puts a file below static/ and answers its path there."""
    settings.STATICFILES_DIRS = [tmp_path]

    def put(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return name

    return put


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        ("a.png", PNG, (640, 427)),
        (
            "a.svg",
            b'<?xml version="1.0"?>\n<svg viewBox="0 0 1 1" height="90px" width="120"><rect width="1"/>',
            (120, 90),
        ),
        ("b.svg", b'<svg viewBox="0 0 1 1"><rect width="7" height="8"/></svg>', pictures.USUAL),
        ("c.svg", b'<svg width="100%" height="50"></svg>', pictures.USUAL),
        ("d.svg", b'<svg stroke-width="3" height="50"></svg>', pictures.USUAL),
        ("cut.png", PNG[:20], pictures.USUAL),
        ("empty.svg", b"", pictures.USUAL),
        ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(2_000), pictures.USUAL),
    ],
)
def test_the_file_says_how_large_it_is(
    put: Callable[[str, bytes], str], name: str, content: bytes, size: tuple[int, int]
) -> None:
    """SVG and PNG do; of anything else the pages assume their usual shape."""
    assert pictures.size_of(put(name, content)) == size


@pytest.mark.parametrize("picture", ["", "no/such.png", "shop"])
def test_no_file_has_the_usual_size(picture: str) -> None:
    """A picture that is gone is no error on every page."""
    assert pictures.size_of(picture) == pictures.USUAL


def test_pages_keep_the_place_of_a_picture(sale: Sale, client: Client, put: Callable[[str, bytes], str]) -> None:
    """Its width and height are on the front page and on the sale's own, before it has come."""
    product = sale.offers.get().product
    product.picture = put("wide.png", PNG)
    product.save()

    for path in ("/", f"/sales/{sale.slug}/"):
        assert 'width="640" height="427"' in client.get(path).content.decode()

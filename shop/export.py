"""The orders of a sale as CSV, row by row as PostgreSQL hands them out: any number takes as much memory as a few.

A spreadsheet takes a cell for a formula that begins with `=`, `+`, `-`, `@`, a tab or a return, also behind spaces and
in its full-width form. Such a cell gets an apostrophe before it, which says that it is text (OWASP, CSV Injection).
"""

import csv
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import QuerySet

from shop.models import Order, Sale

COLUMNS = ("number", "state", "buyer", "title", "units", "total_minor", "currency", "placed_at", "ended_at", "charge")
#: A spreadsheet that is not told so reads UTF-8 as something else.
BYTE_ORDER_MARK = "\ufeff"
#: Rows that one trip to PostgreSQL brings.
ROWS_AT_ONCE = 500

_FORMULA = tuple("=+-@\t\r\n")


def rows(sale: Sale) -> Iterator[str]:
    """Lines of CSV (RFC 4180), the heading first. Reading them asks PostgreSQL again and again: within one request."""
    write = csv.writer(_Echo()).writerow
    yield BYTE_ORDER_MARK + write(COLUMNS)
    for order in _orders(sale).iterator(chunk_size=ROWS_AT_ONCE):
        yield write([harmless(each) for each in _cells(order)])


def _orders(sale: Sale) -> QuerySet[Order]:
    found = Order.objects.filter(offer__sale=sale).select_related("buyer").prefetch_related("payments")
    return found.order_by("pk")


def _cells(order: Order) -> Iterable[Any]:
    paid = [payment.charge for payment in order.payments.all() if payment.succeeded_at]
    return (
        *(order.number, order.state, order.buyer.get_username(), order.title, order.units),
        *(order.total_minor, order.currency, order.placed_at.isoformat()),
        *(order.ended_at.isoformat() if order.ended_at else "", " ".join(paid)),
    )


def harmless(cell: Any) -> str:
    """As text that no spreadsheet calculates, and in which no mark turns the writing of what follows around."""
    text = "".join(letter for letter in str(cell) if unicodedata.bidirectional(letter) not in _TURNS)
    begins = next((letter for letter in unicodedata.normalize("NFKC", text) if not _is_unseen(letter)), "")
    return f"'{text}" if begins in _FORMULA or text.startswith(_FORMULA) else text


def _is_unseen(letter: str) -> bool:
    """A space of whatever width, and none."""
    return unicodedata.category(letter) in ("Zs", "Cf")


#: Overrides and embeddings of direction; Arabic and Hebrew letters stay as they are.
_TURNS = frozenset({"RLE", "LRE", "RLO", "LRO", "PDF", "RLI", "LRI", "FSI", "PDI"})


class _Echo:
    """A file for `csv` that hands back what is written, so that nothing gathers."""

    def write(self, line: str) -> str:
        return line

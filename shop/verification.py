"""Checking what orders and payments promise, by SQL of its own."""

from django.db import connection

from inventory.verification import Finding

#: promise, what it says when a row is found, and the SQL that finds rows: offer id first, then what to show.
_CHECKS = [
    (
        4,
        "reservation {} has no order",
        """
        SELECT r.stock_id, r.id FROM inventory_reservation r LEFT JOIN shop_order o ON o.reservation_id = r.id
         WHERE r.stock_id = %s AND o.id IS NULL AND r.state <> 'refused'
           AND NOT EXISTS (SELECT FROM shop_order_earlier e WHERE e.reservation_id = r.id)
        """,
    ),
    (
        5,
        "order {} is {} and its reservation {}",
        """
        SELECT o.offer_id, o.number, o.state, r.state
          FROM shop_order o JOIN inventory_reservation r ON r.id = o.reservation_id
         WHERE o.offer_id = %s AND (o.state, r.state) NOT IN
               (('awaiting_payment', 'held'), ('paid', 'confirmed'), ('cancelled', 'released'), ('expired', 'expired'),
                ('refund_due', 'released'), ('refund_due', 'expired'),
                ('refunded', 'released'), ('refunded', 'expired'))
        """,
    ),
    (
        5,
        "order {} is paid, with {} payments of its total",
        """
        SELECT o.offer_id, o.number, count(p.id)
          FROM shop_order o LEFT JOIN shop_payment p ON p.order_id = o.id AND p.state = 'succeeded'
               AND p.amount_minor = o.total_minor AND p.currency = o.currency
         WHERE o.offer_id = %s AND o.state = 'paid' GROUP BY o.id HAVING count(p.id) <> 1
        """,
    ),
    (
        5,
        "payment {} came late and waits for units or its refund",
        """
        SELECT o.offer_id, p.charge FROM shop_payment p JOIN shop_order o ON o.id = p.order_id
         WHERE o.offer_id = %s AND p.state = 'late'
        """,
    ),
    (
        5,
        "payment {} succeeded and its order {} is {}",
        """
        SELECT o.offer_id, p.charge, o.number, o.state FROM shop_payment p JOIN shop_order o ON o.id = p.order_id
         WHERE o.offer_id = %s AND p.state = 'succeeded' AND o.state <> 'paid'
        """,
    ),
]


def findings(offer_id: int) -> list[Finding]:
    """Everything that is wrong with the orders and payments of an offer."""
    found = []
    with connection.cursor() as cursor:
        for promise, sentence, sql in _CHECKS:
            cursor.execute(sql, [offer_id])
            found += [Finding(promise, row[0], sentence.format(*row[1:])) for row in cursor.fetchall()]
    return found

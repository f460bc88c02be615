"""How many units a shopper may choose: `{% for n in offer.unit_limit|choices %}`."""

from django import template

register = template.Library()


@register.filter
def choices(unit_limit: int) -> range:
    """Return 1 to the limit."""
    return range(1, unit_limit + 1)

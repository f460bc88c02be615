"""How a command says no: one clear line on stderr, exit status 2, nothing half-done."""

from django.core.management.base import CommandError

from shop.models import Sale


def refuse(reason: str) -> CommandError:
    """The error to raise when what was asked for makes no sense."""
    return CommandError(reason, returncode=2)


def sale_named(slug: str) -> Sale:
    """The sale, or a refusal that names the ones there are."""
    found = Sale.objects.filter(slug=slug).first()
    if found is None:
        there = ", ".join(Sale.objects.values_list("slug", flat=True)[:10]) or "none yet"
        raise refuse(f"there is no sale {slug!r}. Sales: {there}")
    return found

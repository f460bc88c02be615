"""Three groups of staff, made by a migration: what each may do, and what it may not."""

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from shop.models import Offer, Sale

pytestmark = pytest.mark.django_db(transaction=True)

groups: Any = import_module("shop.migrations.0007_groups")

#: What nobody may who is no superuser: it reaches over the head of the automatic, or repairs what is broken.
FOR_SUPERUSERS = {"shop.add_override", "shop.reconcile_sale", "inventory.change_deadentry", "shop.change_deadtask"}

MAY = {
    "seller": {"shop.run_sale", "shop.restock_sale", "shop.export_order", "shop.add_offer", "shop.change_product"},
    "support": {"shop.change_order", "shop.add_flaggedbuyer", "shop.view_payment"},
    "auditor": {"shop.view_saleevent", "shop.export_order", "shop.view_payment", "inventory.view_stockchange"},
}
MAY_NOT = {
    "seller": {"shop.change_order", "shop.add_flaggedbuyer", "auth.view_user", "shop.view_payment"},
    "support": {"shop.run_sale", "shop.restock_sale", "shop.export_order", "shop.change_sale"},
    "auditor": {"shop.run_sale", "shop.restock_sale", "shop.change_order", "shop.add_flaggedbuyer"},
}


@pytest.fixture(autouse=True)
def made() -> None:
    """As the migration leaves them: tests that empty all tables have emptied theirs."""
    groups.make_groups(apps, None)


def member(group: str) -> User:
    user = User.objects.create(username=f"a-{group}", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    return user


@pytest.mark.parametrize("group", MAY)
def test_what_a_group_may_and_may_not(group: str) -> None:
    """Besides, nobody edits a record, and what is for superusers is for no group."""
    has = member(group).get_all_permissions()

    assert MAY[group] <= has
    assert not has & (MAY_NOT[group] | FOR_SUPERUSERS)
    assert all(Permission.objects.filter(codename=each.partition(".")[2]).exists() for each in has)


def test_an_auditor_changes_nothing() -> None:
    verbs = {each.partition(".")[2].partition("_")[0] for each in member("auditor").get_all_permissions()}

    assert verbs == {"view", "export"}


def test_made_again_they_have_what_somebody_added() -> None:
    """And get back what they lost; there is one of each."""
    seller = Group.objects.get(name="seller")
    seller.permissions.remove(Permission.objects.get(codename="run_sale"))
    seller.permissions.add(Permission.objects.get(codename="view_payment"))

    groups.make_groups(apps, None)

    assert {"run_sale", "view_payment"} <= set(seller.permissions.values_list("codename", flat=True))
    assert Group.objects.count() == len(groups.GROUPS)


@pytest.mark.parametrize("group", MAY)
def test_what_the_admin_shows_each(group: str, sale: Sale) -> None:
    """Sales to all; the form of a sale to the seller; payments to those who help buyers or look after them."""
    client = Client()
    client.force_login(member(group))

    def status(name: str, *args: Any) -> int:
        return client.get(reverse(f"admin:{name}", args=args)).status_code

    assert status("shop_sale_changelist") == 200
    assert status("shop_sale_add") == (200 if group == "seller" else 403)
    assert status("shop_payment_changelist") == (403 if group == "seller" else 200)
    assert status("shop_override_add") == 403
    assert status("shop_flaggedbuyer_add") == (200 if group == "support" else 403)
    assert status("shop_offer_change", Offer.objects.get().pk) == 200

"""Three groups of staff. What a superuser alone may do: force a level or a breaker, repair drift, resolve dead events.

Running it again gives back what a group has lost, and takes nothing that somebody has added.
"""

from django.db import migrations

_LOOK_AT_SALES = ["shop.view_product", "shop.view_sale", "shop.view_offer", "inventory.view_stock", "shop.view_saleevent"]
_LOOK_AT_BUYERS = ["shop.view_order", "shop.view_payment", "inventory.view_reservation", "auth.view_user"]

GROUPS = {
    # Writes and runs sales. Reads the orders of a sale to ship them.
    "seller": [
        *_LOOK_AT_SALES,
        *("shop.add_product", "shop.change_product", "shop.delete_product"),
        *("shop.add_sale", "shop.change_sale", "shop.delete_sale", "shop.run_sale", "shop.restock_sale"),
        *("shop.add_offer", "shop.change_offer", "shop.delete_offer"),
        *("shop.view_order", "shop.export_order", "inventory.view_reservation", "inventory.view_stockchange"),
    ],
    # Helps one buyer at a time: no export of all of them.
    "support": [
        *_LOOK_AT_SALES,
        *_LOOK_AT_BUYERS,
        *("shop.change_order", "inventory.view_buyerunits", "shop.view_providerevent"),
        *("shop.add_flaggedbuyer", "shop.view_flaggedbuyer", "shop.change_flaggedbuyer"),
    ],
    # Sees everything and changes nothing.
    "auditor": [
        *_LOOK_AT_SALES,
        *_LOOK_AT_BUYERS,
        *("shop.export_order", "shop.view_providerevent", "shop.view_override", "shop.view_flaggedbuyer"),
        *("shop.view_deadtask", "inventory.view_stockchange", "inventory.view_buyerunits", "inventory.view_effect"),
        *("inventory.view_claim", "inventory.view_deadentry"),
    ],
}

#: Those that are no `view_`, `add_`, `change_` or `delete_` of a model: permission -> model, name.
_OWN = {
    "run_sale": ("sale", "Can schedule, open, pause, resume and close sales"),
    "restock_sale": ("sale", "Can add units to a running sale and change its limit"),
    "export_order": ("order", "Can export the orders of a sale, with their buyers' names"),
}


def make_groups(apps, _schema_editor):
    for name, permissions in GROUPS.items():
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=name)
        group.permissions.add(*(_permission(apps, each) for each in permissions))


def _permission(apps, named):
    """The row; made here in an empty database, in which Django makes it after all migrations."""
    app, _, codename = named.partition(".")
    verb, _, model = codename.partition("_")
    model, name = _OWN.get(codename, (model, f"Can {verb} {_verbose(apps, app, model)}"))
    of_model, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label=app, model=model)
    permissions = apps.get_model("auth", "Permission").objects
    permission, _ = permissions.get_or_create(content_type=of_model, codename=codename, defaults={"name": name})
    return permission


def _verbose(apps, app, model):
    return apps.get_model(app, model)._meta.verbose_name


class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0006_sale_events"),
        ("inventory", "0004_indexes_that_nobody_reads"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]

"""Django's name card of the package; wires the parts together once the models are known."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from shop import celery, wiring

        celery.app.set_default()
        wiring.connect()

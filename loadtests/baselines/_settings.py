"""What both baselines have in common: the settings a tutorial ends with, on the servers of the bench."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Model
from psycopg.conninfo import conninfo_to_dict

#: Seconds a connection to PostgreSQL is kept.
CONNECTION_SECONDS = 60


def of(module: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Of the app that is this module. No middleware: Django's would be in the way of every request."""
    parts = conninfo_to_dict(environment["DATABASE_URL"])
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.get("dbname"),
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": parts.get("port", ""),
        "CONN_MAX_AGE": CONNECTION_SECONDS,
    }
    return {
        "SECRET_KEY": environment["SECRET_KEY"],
        "ALLOWED_HOSTS": ["127.0.0.1"],
        "ROOT_URLCONF": module,
        "MIDDLEWARE": [],
        "DATABASES": {"default": database},
        "CACHES": {
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": environment["CACHE_REDIS_URL"],
            }
        },
        "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "USE_TZ": True,
    }


def make_tables(connection: Any, *models: type[Model]) -> None:
    """Empty ones."""
    with connection.cursor() as cursor:
        for model in reversed(models):
            cursor.execute(f"DROP TABLE IF EXISTS {model._meta.db_table}")
    with connection.schema_editor() as editor:
        for model in models:
            editor.create_model(model)

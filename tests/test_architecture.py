"""The house rules that readers rely on: shop -> inventory -> resilience, and nobody reaches into another's drawers."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("shop", "inventory", "resilience")

#: What each package may import besides the standard library and itself.
MAY_IMPORT = {
    "resilience": {"redis", "django_redis", "pymemcache", "pybreaker", "prometheus_client", "django"},
    "inventory": {"resilience", "django", "celery", "billiard", "redis", "prometheus_client"},
    "shop": {
        "inventory",
        "resilience",
        "django",
        "celery",
        "kombu",
        "psycopg",
        "psycopg_pool",
        "prometheus_client",
        "whitenoise",
    },
    # Before there are servers there are no settings, so what starts them knows no Django.
    "shop/local": {"psycopg", "redis", "shop"},
}
#: Django in the toolbox: only to be a Django cache.
DJANGO_IN_RESILIENCE = "resilience/cache/"
#: The way from commands to what `make up` needs on one machine; nothing in production takes it.
INTO_LOCAL = {"shop/management/commands/up.py"}

FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names, with what it takes from it: `from a.b import c` is a.b.c."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    """A package imports what its row in the architecture allows, and private modules only of its own."""
    name = str(path.relative_to(ROOT))
    package = "shop/local" if name.startswith("shop/local/") else name.split("/")[0]
    for imported in imports(path):
        top, *rest = imported.split(".")
        assert top == package or top in MAY_IMPORT[package] or top in sys.stdlib_module_names, imported
        if top == "django" and package == "resilience":
            assert name.startswith(DJANGO_IN_RESILIENCE), imported
        if top in PACKAGES and top != package:
            assert not any(part.startswith("_") and not part.startswith("__") for part in rest), imported
        if imported.startswith("shop.local"):
            assert name.startswith("shop/local/") or name in INTO_LOCAL, imported


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is(package: str) -> None:
    """`__init__.py` holds a docstring and re-exports nothing: importing a package needs no settings."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())

    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_no_junk_drawers() -> None:
    """No file is named after its author's indecision."""
    drawers = {"utils", "helpers", "common", "core", "misc", "services", "managers"}

    assert not [path for path in ROOT.glob("[!.]*/**/*.py") if {path.stem, path.parent.name} & drawers]

"""What Django says of our settings in production: nothing."""

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import clean_environment

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("SECRET_KEY", "BUYER_KEYS", "TICKET_KEYS", "RECEIPT_KEYS", "PROVIDER_SECRET")
SERVERS = ("DATABASE_URL", "STOCK_REDIS_URL", "BROKER_URL", "CACHE_REDIS_URL", "MEMCACHED_URL")


def check(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`manage.py check --deploy` in a shell of production, on the servers of this run."""
    environment = {
        **clean_environment(),
        **{name: os.environ[name] for name in (*KEYS, *SERVERS)},
        "STATE": str(folder),
        "SHOP_URL": "https://shop.example",
        "ALLOWED_HOSTS": "shop.example",
        **more,
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "DEBUG"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_it_is_clean_in_production(tmp_path: Path) -> None:
    """No warning; of the redirect, which the edge makes, the settings say why they are silent."""
    found = check(tmp_path)

    assert (found.returncode, found.stderr) == (0, ""), found.stderr
    assert found.stdout.startswith("System check identified no issues (1 silenced)")


def test_it_is_not_when_something_is_missing(tmp_path: Path) -> None:
    """The check can fail: cookies without HTTPS are told."""
    found = check(tmp_path, HTTPS="off")

    assert found.returncode == 1
    assert "SESSION_COOKIE_SECURE" in found.stderr

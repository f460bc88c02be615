"""Static files under names that change with their content, so that browsers may keep them for ever."""

import hashlib
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStaticFiles(CompressedManifestStaticFilesStorage):
    """Also rewrites the imports of our ES modules; otherwise a browser would mix old and new ones."""

    support_js_module_import_aggregation = True


def collect_if_changed() -> bool:
    """Collect and compress them, three seconds of work, unless the collected ones are of these very files."""
    collected = Path(settings.STATIC_ROOT) / ".collected"
    present = _fingerprint()
    if collected.exists() and collected.read_text() == present:
        return False
    call_command("collectstatic", verbosity=0, interactive=False)
    collected.write_text(present)
    return True


def _fingerprint() -> str:
    """Changes whenever a file comes, goes or is written."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in sorted(finder.list([]), key=lambda found: found[0]):
            status = Path(storage.path(name)).stat()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()

"""The edge: nginx in front of the lanes, from the template `nginx.conf`, with all its files in one folder of ours."""

import re
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from shop.local.accounts import Account, own_folder
from shop.local.options import Options
from shop.local.pings import http_answers
from shop.local.programs import Program
from shop.local.refusal import Refusal
from shop.local.service import Service
from shop.local.state import State, write_whole

TEMPLATE = Path(__file__).with_name("nginx.conf")
#: One fills a core with a hundred thousand answers a second.
WORKERS = 1
#: Connections that may wait for nginx. The kernel shortens it to its own net.core.somaxconn.
BACKLOG = 4096
#: Connections of a worker, to clients and to lanes, where the machine allows as many open files.
CONNECTIONS_MAXIMUM = 16_384
#: Open files of nginx besides its connections: logs, the cache's files, sockets.
FILES_BESIDE = 64
#: Bytes of a body, and of one on its way to the express lane: what `DATA_UPLOAD_MAX_MEMORY_SIZE` and `wishes` take.
BODY_MAXIMUM, CLICK_MAXIMUM = 1_000_000, 4_096
#: Seconds a connection to a lane lives at most, and without a request: nginx is done with an old lane after both.
LANE_CONNECTION_SECONDS, LANE_IDLE_SECONDS = 10, 5

#: Of our own pages and files. Nothing of anybody's is in them; the busy page brings its style with it.
OWN_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none';"
    " frame-ancestors 'none'; form-action 'self'"
)
#: What would mean something else to nginx, even between quotes.
_UNWRITABLE = re.compile(r"[\"\\${}\x00-\x1f]")
_SLOT = re.compile(r"@\{(\w+)\}")


@dataclass(frozen=True)
class Edge:
    """Where nginx of this state lives."""

    program: Program
    folder: Path
    sockets: Path
    account: Account | None

    @classmethod
    def of(cls, program: Program, state: State, account: Account | None) -> "Edge":
        """Raises Refusal when a folder cannot be used."""
        home = own_folder(state.data_home(account) / "edge", account, mode=0o755)
        own_folder(home / "pages", None, mode=0o755)
        return cls(program, home, state.sockets(account), account)

    @property
    def configuration(self) -> Path:
        return self.folder / "nginx.conf"

    @property
    def pages(self) -> Path:
        """What nginx says when it has no other answer: written by `manage.py prepare`."""
        return self.folder / "pages"

    def configure(self, options: Options, environment: Mapping[str, str], static: Path) -> bool:
        """Write the configuration. Answers whether it is another one than before."""
        text = configuration(self, options, environment, static)
        if self.configuration.exists() and self.configuration.read_text() == text:
            return False
        write_whole(self.configuration, text)
        return True

    def service(self, environment: Mapping[str, str]) -> Service:
        port, host = int(environment["PORT"]), environment["SHOP_URL"].rpartition("/")[2]
        return Service(
            name="edge",
            command=[str(self.program.path), "-e", "stderr", "-p", str(self.folder), "-c", str(self.configuration)],
            environment=self.program.environment,
            is_ready=lambda: http_answers(port, "/readyz", host),
            ready_file=self.sockets
            / "edge-refill.sock",  # nginx does not take over a socket that a killed one has left
            stop_signal=signal.SIGQUIT,  # finish what is being answered; TERM would cut it
        )


def configuration(edge: Edge, options: Options, environment: Mapping[str, str], static: Path) -> str:
    """The template with everything filled in. Raises Refusal for what cannot be said to nginx."""
    files = _open_files()
    values = {
        "user": f"user {edge.account.name};" if edge.account else "",
        "workers": WORKERS,
        "files": files,
        "connections": min(CONNECTIONS_MAXIMUM, files - FILES_BESIDE),
        "folder": edge.folder,
        "sockets": edge.sockets,
        "static": static,
        "host": options.host,
        "port": environment["PORT"],
        "backlog": BACKLOG,
        "body_maximum": BODY_MAXIMUM,
        "click_maximum": CLICK_MAXIMUM,
        "lane_connection_seconds": LANE_CONNECTION_SECONDS,
        "lane_idle_seconds": LANE_IDLE_SECONDS,
        "front_proxies": options.trusted_proxies,
        "client_found": _client_found(options.trusted_proxies),
        "exempt": _exempt(environment.get("RATE_LIMIT_EXEMPT", "")),
        "compressed": _compression(edge.program),
        "jit": "pcre_jit on;" if "--with-pcre-jit" in edge.program.said else "",
        "own_policy": OWN_POLICY,
    }
    for name in ("folder", "sockets", "static"):
        if _UNWRITABLE.search(str(values[name])):
            raise Refusal(f"nginx cannot be told of {values[name]}: choose another STATE, or EDGE=off")
    return _SLOT.sub(lambda slot: str(values[slot[1]]), TEMPLATE.read_text())


def _open_files() -> int:
    """What this machine lets a process of ours open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 2 * CONNECTIONS_MAXIMUM
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def _client_found(proxies: int) -> str:
    """How the client is found in X-Forwarded-For; without proxies of ours, nobody looks there."""
    return f'"~{_client_pattern(proxies)}" $said;' if proxies else ""


def _client_pattern(proxies: int) -> str:
    """The entry that the first of our proxies appended, named `said`."""
    return rf"(?:^|,)\s*(?<said>[^,\s]+)\s*(?:,[^,]*){{{proxies - 1}}}$"


def _exempt(networks: str) -> str:
    try:
        known = [ip_network(word.strip()) for word in networks.split(",") if word.strip()]
    except ValueError as error:
        raise Refusal(f"RATE_LIMIT_EXEMPT must be networks like 10.0.0.0/8 or 2001:db8::/32: {error}") from error
    return " ".join(f"{network} 1;" for network in known)


def _compression(program: Program) -> str:
    """The files that were compressed when they were collected; on the fly with an nginx that cannot serve those."""
    if "--with-http_gzip_static_module" in program.said:
        return "gzip_static on; gzip_vary on;"
    return "gzip on; gzip_vary on; gzip_types text/css text/javascript image/svg+xml application/json text/plain;"


def lane_socket(sockets: Path, lane: str, generation: int) -> Path:
    return sockets / f"{lane}-{generation}.sock"


def point_to(sockets: Path, lane: str, generation: int) -> None:
    """Let nginx find this generation of the lane from now on: each new connection goes where the link points."""
    draft = sockets / f"{lane}.new"
    draft.unlink(missing_ok=True)
    draft.symlink_to(lane_socket(sockets, lane, generation).name)
    draft.replace(sockets / f"{lane}.sock")

"""The variables that the shop's processes see. One that the caller has set wins over one that is made here."""

from collections.abc import Mapping
from dataclasses import dataclass

from shop.local.options import Options
from shop.local.ports import FIRST_FREE_FOR_ALL, LAST_PORT, HeldPort, address_in_the_lan
from shop.local.state import State, write_values

#: Where the demo's own requests come from: a load test from this machine is not a hundred shoppers behind one router.
LOOPBACK_NETWORKS = "127.0.0.0/8,::1/128"
LOOPBACK_NAMES = "127.0.0.1,localhost,[::1]"


@dataclass(frozen=True)
class Ports:
    """The port of the shop and, unless somebody else's provider is used, that of the provider."""

    shop: HeldPort
    provider: HeldPort | None

    @classmethod
    def hold(cls, options: Options, environ: Mapping[str, str]) -> "Ports":
        shop = HeldPort(options.host, options.port)
        if environ.get("PROVIDER_URL"):
            return cls(shop, None)
        next_one = shop.number + 1 if shop.number < LAST_PORT else FIRST_FREE_FOR_ALL
        return cls(shop, HeldPort(options.host, options.provider_port or next_one))

    def share(self) -> None:
        """Let the processes that are started next listen, and nobody else. Raises Refusal when that came too late."""
        for held in self._all():
            held.share()

    def release(self) -> None:
        for held in self._all():
            held.release()

    def _all(self) -> list[HeldPort]:
        return [self.shop, *([self.provider] if self.provider else [])]


def variables(options: Options, state: State, ports: Ports, environ: Mapping[str, str]) -> dict[str, str]:
    """All but the servers and the secrets; what a second terminal needs, too."""
    address = address_in_the_lan() if options.lan else "127.0.0.1"
    made = {
        "PROFILE": "local",
        "SHOP_URL": f"http://{address}:{ports.shop.number}",
        "HTTPS": "off",
        "RATE_LIMIT_EXEMPT": LOOPBACK_NETWORKS,
        "ALLOWED_HOSTS": f"{LOOPBACK_NAMES},{address}" if options.lan else LOOPBACK_NAMES,
    }
    if ports.provider:
        made["PROVIDER_URL"] = f"http://{address}:{ports.provider.number}"
    chosen = {name: environ.get(name, value) for name, value in made.items()}
    chosen |= {"STATE": str(state.path), "PORT": str(ports.shop.number)}
    if ports.provider:
        return chosen | {"PROVIDER_HOST": options.host, "PROVIDER_PORT": str(ports.provider.number)}
    return chosen | {"PROVIDER_URL": environ["PROVIDER_URL"]}


def settle(state: State, made: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Write the variables down for a second terminal; return the whole environment of the shop's processes."""
    write_values(state.environment, made)
    secrets = {name: environ.get(name) or value for name, value in state.generated_secrets().items()}
    # libpq reads PG... variables, which would bend the addresses that are written out here.
    inherited = {name: value for name, value in environ.items() if not name.startswith("PG")}
    # Not written down: what a second terminal counts is no part of the shop's numbers.
    metrics = {"PROMETHEUS_MULTIPROC_DIR": str(state.empty_metrics())}
    return {**inherited, **secrets, **made, **metrics, **_without_proxy(environ), "PYTHONUNBUFFERED": "1"}


def _without_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """The provider calls the shop, and the shop the provider: on this machine, past any proxy."""
    known = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    names = ",".join(filter(None, [known, "127.0.0.1,localhost"]))
    return {"no_proxy": names, "NO_PROXY": names}

"""What the person who typed `make up` asks for, read from variables and refused at once when it makes no sense."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shop.local.ports import port_number
from shop.local.refusal import Refusal
from shop.local.tools import CHECKOUT

#: Values of LAN that mean no, as people write them.
NO = ("", "0", "no", "off", "false")
#: Proxies that somebody may have in front: nine, because the edge is one more and the shop's settings take ten.
PROXIES_MAXIMUM = 9


@dataclass(frozen=True)
class Options:
    port: int
    provider_port: int | None
    state: Path
    workers: int
    lan: bool
    #: Whether nginx is put in front, where there is one.
    edge: bool
    #: Proxies of ours in front of all this.
    trusted_proxies: int

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Options":
        """Raises Refusal with one line for the first variable that makes no sense."""
        provider_port = environ.get("PROVIDER_PORT")
        return cls(
            port=port_number("PORT", environ.get("PORT", "8000")),
            provider_port=port_number("PROVIDER_PORT", provider_port) if provider_port else None,
            state=CHECKOUT / (environ.get("STATE") or ".state"),
            workers=_positive("WORKERS", environ.get("WORKERS", "1")),
            lan=environ.get("LAN", "").lower() not in NO,
            edge=_switch("EDGE", environ.get("EDGE") or "on"),
            trusted_proxies=_few("TRUSTED_PROXIES", environ.get("TRUSTED_PROXIES", "0")),
        )

    @property
    def host(self) -> str:
        return "0.0.0.0" if self.lan else "127.0.0.1"


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise Refusal(f"{name} must be a whole number from 1, not {text!r}")
    return int(text)


def _switch(name: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise Refusal(f"{name} must be on or off, not {text!r}")
    return text == "on"


def _few(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= PROXIES_MAXIMUM):
        raise Refusal(f"{name} must be a whole number from 0 to {PROXIES_MAXIMUM}, not {text!r}")
    return int(text)

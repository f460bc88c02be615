"""What answers on the shop's port: nginx with two lanes behind it, or one process alone."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from shop.local import edge, processes
from shop.local.edge import Edge
from shop.local.options import Options
from shop.local.service import Service
from shop.local.supervisor import Supervisor

#: Seconds until nobody asks an old lane any more: its connections have grown too old by then, or have lain idle.
LEAVE_SECONDS = edge.LANE_CONNECTION_SECONDS + edge.LANE_IDLE_SECONDS


class OneProcess:
    """Without an edge."""

    def __init__(self, options: Options, environment: Mapping[str, str]) -> None:
        self._options = options
        self.environment = environment

    def services(self) -> list[Service]:
        return [processes.web(self.environment, self._options)]

    def open(self, supervisor: Supervisor) -> None:
        """It listens by itself."""

    def renew(self, supervisor: Supervisor) -> None:
        """Nobody is in front to lead requests elsewhere: in the moment between, the kernel refuses them."""
        supervisor.restart("web")


class EdgeAndLanes:
    """nginx on the port, and behind it one generation of the lanes after the other."""

    def __init__(self, edge: Edge, options: Options, environment: Mapping[str, str], static: Path) -> None:
        self._edge = edge
        self._options = options
        self._static = static
        self._generation = os.getpid()  # no socket of an earlier start has this name, whoever still listens on it
        self.environment = {**environment, "EDGE_PAGES": str(edge.pages)}
        self._configure()

    def services(self) -> list[Service]:
        """The lanes; they are no use to anybody until `open`."""
        return processes.lanes(self.environment, self._options, self._edge.sockets, self._generation)

    def open(self, supervisor: Supervisor) -> None:
        """Let clients in, once the lanes are ready."""
        self._point()
        supervisor.start([self._edge.service(self.environment)])

    def renew(self, supervisor: Supervisor) -> None:
        """New lanes beside the old ones; then nginx connects to the new ones only, and no request notices.

        granian could start new workers by itself (HUP), but closes connections that nginx may be writing a click to.
        nginx closes them after an answer, when they have become too old, and the old lanes go after that. It is not
        reloaded unless its configuration has changed: an old worker of nginx closes idle connections of clients.
        """
        self._generation += 1
        supervisor.replace(self.services(), self._point, LEAVE_SECONDS)
        if self._configure():
            supervisor.signal("edge", signal.SIGHUP)

    def _point(self) -> None:
        for lane in processes.LANES:
            edge.point_to(self._edge.sockets, lane, self._generation)

    def _configure(self) -> bool:
        return self._edge.configure(self._options, self.environment, self._static)


Front = OneProcess | EdgeAndLanes

"""`make load SHAPE=spike USERS=2000 SECONDS=60`: a crowd meets a shop, and the last line is a verdict.

options -> shop -> people, sale -> look at the shop -> crowd, in a process of its own -> stores at rest -> verdict.
Exit status 0: PASS; 1: FAIL, or something broke; 2: change something first; 3: INCONCLUSIVE, the client was too slow.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests import overload, report, target
from loadtests.crowd import Crowd
from loadtests.evidence import Evidence, Witness
from loadtests.options import Options
from loadtests.own_shop import OwnShop, own_shop
from loadtests.plan import Plan
from loadtests.shapes import SHAPES
from loadtests.verdict import judge, text
from shop.local.refusal import Broken, Refusal

#: Seconds from the making of a sale to the first who comes: Locust starts, sources are spread over its processes.
RUN_UP_SECONDS = 6.0
#: Seconds that a hold lasts in a sale of our own, of the seconds of the load, at least and at most: unpaid units come
#: back while there is somebody left to buy them.
HOLD_SHARE, HOLD_LEAST, HOLD_MOST = 0.25, 8, 60
#: Of the seconds of a load, those in which people come and wait for the opening; at most so many.
WAITING_SHARE, WAITING_MOST = 0.2, 15.0
#: Seconds for everything that is under way to arrive, beyond the last hold's end.
REST_SECONDS = 40.0


@dataclass(frozen=True)
class Stage:
    """A shop with a sale that is about to open, and people for it."""

    plan: Plan
    cookies: Path
    #: Where the stores are; None when only the shop's outside can be seen.
    shop: OwnShop | None

    def witness(self) -> Witness | None:
        return Witness(self.shop.environment, self.plan.offer, self.shop.url) if self.shop else None


def main(environ: Mapping[str, str] = os.environ) -> int:
    try:
        options = Options.read(environ)
        target.check_open_files(options.people, options.processes)
        if options.shape == "overload":
            return overload.main(options, say)
        return run(options)
    except Refusal as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 2
    except Broken as broken:
        sys.stderr.write(f"{broken}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(options: Options) -> int:
    with stage(options) as ready:
        say(f"{options.shape}: {SHAPES[options.shape].about}; {ready.plan.users} people, {ready.plan.quantity} units")
        evidence = meet(ready, options)
    return tell(evidence, options.report)


def tell(evidence: Evidence, folder: Path) -> int:
    """Write it down, then say it: the verdict is the last line."""
    verdict = judge(evidence)
    evidence.write(folder)
    report.write(folder, evidence, verdict)
    say("")
    say(f"report: {folder / 'report.md'}")
    say(text(verdict))
    return verdict.status


def meet(ready: Stage, options: Options) -> Evidence:
    """The crowd and the shop; afterwards both stores, when everything under way has arrived."""
    options.report.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_:
        witness = ready.witness()
        if witness:
            open_.enter_context(witness)
        crowd = open_.enter_context(
            Crowd(ready.plan, ready.cookies, options.report, options.processes, options.workers)
        )
        crowd.watch(say, witness)
        if witness and ready.shop:
            say("waiting until both stores are at rest")
            notes = _rest(witness, ready.plan)
            books = witness.books()
            books.findings = ready.shop.verify(ready.plan.sale)
            return Evidence(crowd.plan(), crowd.records(), witness.samples, books, notes, witness.levels)
    return Evidence(crowd.plan(), crowd.records(), notes=["The shop's stores could not be looked into."])


def _rest(witness: Witness, plan: Plan) -> list[str]:
    seconds = plan.hold_seconds + REST_SECONDS
    if target.wait(witness.at_rest, seconds):
        return []
    return [f"After {seconds:.0f} s there was still something under way between the stores."]


@contextmanager
def stage(options: Options) -> Iterator[Stage]:
    """Everything ready for the crowd. Raises Refusal for what would make no result."""
    if options.host:
        yield _given_stage(options)
        return
    with tempfile.TemporaryDirectory(prefix="load-") as folder, own_shop(say, folder=options.shop_from) as shop:
        yield made_stage(options, shop, Path(folder))


def made_stage(options: Options, shop: OwnShop, folder: Path) -> Stage:
    """People and a sale of our own."""
    cookies, slug = folder / "cookies", f"load-{options.seed}-{int(time.time())}"
    shop.manage("shoppers", str(options.people), "--out", str(cookies))
    waiting = min(WAITING_MOST, WAITING_SHARE * options.seconds) if SHAPES[options.shape].herd else 0.0
    hold = round(min(HOLD_MOST, max(HOLD_LEAST, HOLD_SHARE * options.seconds)))
    opens_in = round(RUN_UP_SECONDS + waiting)
    terms = ["--quantity", str(options.quantity), "--limit", str(options.limit), "--hold", str(hold)]
    shop.manage("demo", "--sale", slug, *terms, "--opens-in", str(opens_in))
    return Stage(_plan(options, shop.url, slug, hold, waiting), cookies, shop)


def _given_stage(options: Options) -> Stage:
    """Somebody's shop: its sale, and the cookies that its own `manage.py shoppers` has written."""
    target.connected(options.host).close()
    if not options.sale or not options.shoppers:
        raise Refusal(
            "with HOST, say SALE=<slug>, a sale with one offer, and SHOPPERS=<file>, from its `manage.py shoppers`"
        )
    try:
        cookies = options.shoppers.read_text().split()
    except OSError as error:
        raise Refusal(f"SHOPPERS {options.shoppers} cannot be read: {error.strerror}") from error
    if len(cookies) < options.people:
        raise Refusal(f"SHOPPERS {options.shoppers} has {len(cookies)} cookies, and {options.people} people come")
    plan = _plan(options, options.host, options.sale, HOLD_MOST, WAITING_SHARE * options.seconds)
    target.check_rate_limits(options.host, options.sale, plan.offer, cookies)
    return Stage(plan, options.shoppers, None)


def _plan(options: Options, url: str, slug: str, hold: float, waiting: float) -> Plan:
    sale = target.look_at(url, slug)
    now_ms = time.time() * 1000 + sale.ahead_ms
    begins_at_ms = round(max(now_ms, sale.opens_at_ms - waiting * 1000))
    herd = SHAPES[options.shape].herd
    if herd and sale.opens_at_ms < now_ms:
        raise Refusal(f"the sale {slug} is open already: people cannot wait for it. SHAPE=soak comes at any time")
    return Plan(
        shape=options.shape,
        host=url,
        sale=slug,
        offer=sale.offer,
        quantity=sale.quantity,
        limit=options.limit,
        hold_seconds=hold,
        begins_at_ms=begins_at_ms,
        opens_at_ms=sale.opens_at_ms,
        ends_at_ms=round(begins_at_ms + options.seconds * 1000),
        users=options.users,
        bots=options.bots,
        seed=options.seed,
        spread_seconds=options.spread_seconds,
        rate=0.0 if herd else options.rate,
        ahead_ms=sale.ahead_ms,
        devices_off_ms=options.devices_off_ms,
    )


if __name__ == "__main__":
    sys.exit(main())

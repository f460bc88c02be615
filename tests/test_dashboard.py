"""Panels and alerts speak of metrics that exist, by labels that these have; and no metric is without a panel."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import shop.tasks  # and with it all modules that declare metrics
import shop.urls  # noqa: F401  # the same of the web processes
from shop import gauges

OPS = Path(__file__).parent.parent / "ops"

#: What a family is called in expressions, by its type.
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
#: Words of PromQL that are neither functions nor metrics.
KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}

_STRING = re.compile(r'"[^"]*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)?\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_NAME = re.compile(r"[a-zA-Z_:][\w:]*(?![\w:]|\s*\()")


def declared() -> dict[str, set[str]]:
    """Name in expressions -> its labels, for each metric that this program declares."""
    found: dict[str, set[str]] = {}
    for collector in set(REGISTRY._names_to_collectors.values()):
        if isinstance(collector, MetricWrapperBase):
            [family] = collector.describe()
            for suffix in SUFFIXES[family.type]:
                found[family.name + suffix] = {*collector._labelnames, *(["le"] if suffix == "_bucket" else [])}
    return found | {name: set(labels) for name, (_, labels) in gauges.GAUGES.items()}


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((OPS / "grafana/dashboard.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def alerts() -> dict[str, str]:
    """Each alert's text. The file is ours, and needs no more of YAML than this."""
    _, *found = re.split(r"^ +- alert: ", (OPS / "prometheus/alerts.yml").read_text(), flags=re.MULTILINE)
    return {text.splitlines()[0]: text for text in found}


def expressions() -> dict[str, str]:
    """Where it stands -> the expression."""
    of_panels = {
        f"{panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]
    }
    return of_panels | {name: found[1] for name, text in alerts().items() if (found := re.search(r"expr: (.*)", text))}


def names(expression: str) -> set[str]:
    """The metrics of an expression."""
    bare = _GROUPING.sub("", _RANGE.sub("", re.sub(r"\{[^}]*\}", "", _STRING.sub("", expression))))
    return set(_NAME.findall(bare)) - KEYWORDS


def labels(expression: str) -> set[str]:
    """All labels that it selects or groups by."""
    bare = _STRING.sub("", expression)
    selected = [name.strip() for _, inside in _SELECTOR.findall(bare) for name in re.split(r"[=!~,\s]+", inside)]
    grouped = [name.strip() for inside in _GROUPING.findall(bare) for name in inside.split(",")]
    return set(filter(None, [*selected, *grouped]))


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=expressions())
def test_an_expression_speaks_of_what_exists(where: str, expression: str) -> None:
    """A metric that was renamed would leave an empty panel, and an alert that never comes."""
    known = declared()

    assert names(expression)
    assert names(expression) <= set(known)
    assert labels(expression) <= set().union(*(known[name] for name in names(expression)))


def test_each_metric_is_on_a_panel() -> None:
    """What nobody looks at need not be counted."""
    shown = set().union(*(names(target["expr"]) for panel in panels() for target in panel["targets"]))
    families = {re.sub("_(bucket|count|sum|total)$", "", name) for name in shown}

    assert {name for name in declared() if re.sub("_(bucket|count|sum|total)$", "", name) not in families} == set()


def test_panels_can_be_read() -> None:
    """Each has its own id and place, says what it shows, and reads from the data source that is chosen above."""
    found = panels()

    assert len({panel["id"] for panel in found}) == len(found)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found}) == len(found)
    for panel in found:
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]


@pytest.mark.parametrize("name", alerts())
def test_an_alert_waits_and_says_how_bad_it_is(name: str) -> None:
    """One look is no reason to wake somebody, and whoever is woken wants to know what for."""
    text = alerts()[name]

    assert re.search(r"^ +for: [1-9]\d*m$", text, re.MULTILINE)
    assert re.search(r"^ +labels: \{severity: (page|ticket)\}$", text, re.MULTILINE)
    assert re.search(r"^ +summary: .{20}", text, re.MULTILINE)

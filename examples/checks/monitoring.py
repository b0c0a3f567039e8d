"""Monitoring: Prometheus knows what the replicas behind HAProxy have sold, and that one of them started anew."""

from __future__ import annotations

import time
from urllib.parse import urlencode

from checks.user import User, fetch_json, need, until

SHOP, PROMETHEUS = "http://127.0.0.1:8085", "http://127.0.0.1:9090"
NAME = "monitoring"
SOLD = "sum(shop_sold_total)"
#: What Prometheus knew, and when: what is still to be known after a restart.
_known: dict[float, int] = {}


def value(query: str, at: float | None = None) -> float | None:
    """Return what Prometheus answers to a query, now or at a time; None when it knows nothing."""
    words = {"query": query} | ({"time": str(at)} if at else {})
    found = fetch_json(f"{PROMETHEUS}/api/v1/query?{urlencode(words)}")["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def ask(user: User) -> str:
    """Buy until each replica has sold something; Prometheus hears of all of it."""
    sellers: list[str] = []

    def all_sell() -> bool:
        sellers.append(fetch_json(f"{SHOP}/buy/apple")["by"])
        return len(sellers) >= 30 and len(set(sellers)) == 3

    until("each of three replicas sells", all_sell)
    until(f"Prometheus knows of {len(sellers)} apples", lambda: value(SOLD) == len(sellers))
    _known[time.time()] = len(sellers)
    until("HAProxy's fixed address is watched", lambda: value('up{job="balancer"}') == 1)
    until("this machine is watched", lambda: value('node_load1{job="machine"}') is not None)
    return f"3 replicas sold {len(sellers)} apples, says Prometheus, which finds them by DNS"


def hurt(user: User) -> str:
    """Kill a replica; buyers notice nothing, Prometheus does."""
    user.pycompose("container", "kill", f"{NAME}-shop-2")
    for _ in range(60):
        fetch_json(f"{SHOP}/buy/pear")
    started = 'max(changes(process_start_time_seconds{job="shop"}[10m]))'
    until("Prometheus saw a replica start anew", lambda: value(started) == 1)
    until("all replicas answer", lambda: value('count(up{job="shop"} == 1)') == 3)
    return "a replica killed: started again, and none of 60 buyers noticed"


def stopped(user: User) -> str:
    """Prometheus has ended as it should."""
    need("See you next time!" in user.log("prometheus"), "Prometheus did not end as it should")
    return "Prometheus: See you next time!"


def kept(user: User) -> str:
    """Prometheus still knows, and watches the new replicas."""
    for at, count in _known.items():
        need(value(SOLD, at) == count, "Prometheus has forgotten what was sold")
    until("all replicas are watched", lambda: value('count(up{job="shop"} == 1)') == 3)
    return "Prometheus remembers, and watches the three new replicas"

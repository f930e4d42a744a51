"""Families of scraping itself. Unlike all others they are newer than the snapshot."""

from __future__ import annotations

from pinchpoint.expose.family import Family, by_label, single
from pinchpoint.expose.state import ScrapeStats


def scrape_families(stats: ScrapeStats) -> tuple[Family, ...]:
    """The families, bound to what they count."""
    return (
        Family(
            "pinchpoint_scrape_duration_seconds",
            "gauge",
            "How long the agent took to answer the scrape before this one.",
            (),
            lambda _: single(stats.duration_seconds),
        ),
        Family(
            "pinchpoint_scrapes",
            "counter",
            "Scrapes answered, by HTTP status.",
            ("code",),
            lambda _: by_label(stats.by_code),
        ),
        Family(
            "pinchpoint_scrape_errors",
            "counter",
            "Scrapes that failed because the metrics could not be rendered.",
            (),
            lambda _: [((), stats.errors)],
        ),
    )

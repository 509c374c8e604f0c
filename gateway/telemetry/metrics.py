"""Metrics: what happens at a site, counted; and the text form that Prometheus reads.

Counters are added to where things happen, on the event loop; gauges are set from one reading of the site for each scrape.

Rules:      1. a label is a state, a kind, a site, a route, a code or a limit; never a name, a digest or an identity
            2. every series is listed in docs/operations.md (a test compares)
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

AGENTS: Final = "agents"
"""The peer label of this site's own agents and people, all together."""
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class Metrics:
    """Every series of one site."""

    def __init__(self) -> None:
        """Begin at zero, in a registry of its own."""
        self.registry = CollectorRegistry()
        self._requests = self._counter("carnet_requests", "Requests answered.", "route", "method", "status")
        self._seconds = Histogram(
            "carnet_request_seconds",
            "Time from the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._limits = self._counter("carnet_limit_hits", "Requests refused by a limit.", "limit")
        self._segments = self._counter("carnet_segments", "Segments moved.", "peer", "direction")
        self._bytes = self._counter("carnet_segment_bytes", "Sealed bytes of segments moved.", "peer", "direction")
        self._jobs_failed = self._counter("carnet_job_failures", "Attempts at background work that did not succeed.", "kind")
        self._loop_lag = Gauge("carnet_event_loop_lag_seconds", "How late the last timer was.", registry=self.registry)
        self.connections = Gauge("carnet_connections_open", "Open connections.", registry=self.registry)
        self.bytes_in_flight = Gauge("carnet_bytes_in_flight", "Bytes of bodies admitted now.", registry=self.registry)
        self.transfers = self._gauge("carnet_transfers", "Transfers that this site knows.", "state")
        self.deliveries = self._gauge("carnet_deliveries", "Deliveries that this site makes.", "state")
        self.jobs = self._gauge("carnet_jobs", "Background work that is queued.", "kind")
        self.jobs_failing = self._gauge("carnet_jobs_failing", "Background work that has failed at least once.", "kind")
        self.job_attempts = self._gauge("carnet_job_attempts_max", "Most attempts at one piece of background work.", "kind")
        self.job_lateness = self._gauge("carnet_job_lateness_seconds", "How long the oldest piece has been due.", "kind")
        self.duties = self._gauge("carnet_duties", "What policy asks people for and nobody has signed as done.", "state")
        self.copies_due = self._gauge("carnet_log_copies_due", "Copies of decisions that are not written yet.")
        self.log_entries = self._gauge("carnet_log_entries", "Entries of the log.")
        self.log_lag = self._gauge("carnet_log_unpublished_entries", "Entries under no published checkpoint.")
        self.checkpoint_age = self._gauge("carnet_log_checkpoint_age_seconds", "Age of the published checkpoint.")
        self.disk_free = self._gauge("carnet_disk_free_bytes", "Bytes free on the disk of the site.")
        self.disk_reserve = self._gauge("carnet_disk_reserve_bytes", "Bytes that are kept free.")
        self.disk_stopped = self._gauge("carnet_disk_stopped", "1 while nothing new is taken in.")
        self.revocation_age = self._gauge("carnet_revocation_set_age_seconds", "Age of the set known of a site.", "site")
        self.seconds_left = self._gauge("carnet_expiry_seconds", "Seconds until it expires; negative once it has.", "what")
        self.clock_ahead = self._gauge("carnet_clock_above_floor_seconds", "Clock less time floor; negative holds work.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def answered(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; `route` is a line of the route table, not a path."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, limit: str) -> None:
        """Count a request that a limit refused."""
        self._limits.labels(limit).inc()

    def received(self, peer: str, size: int) -> None:
        """Count a segment that came."""
        self._segments.labels(peer, "in").inc()
        self._bytes.labels(peer, "in").inc(size)

    def sent(self, peer: str, size: int) -> None:
        """Count a segment that left."""
        self._segments.labels(peer, "out").inc()
        self._bytes.labels(peer, "out").inc(size)

    def job_failed(self, kind: str) -> None:
        """Count an attempt that did not succeed."""
        self._jobs_failed.labels(kind).inc()

    def lagged(self, seconds: float) -> None:
        """Note how late a timer of the event loop was."""
        self._loop_lag.set(seconds)

    def text(self) -> bytes:
        """Return everything in OpenMetrics text; `CONTENT_TYPE` is its type."""
        encoded: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]  # foreign
        return encoded

"""What Prometheus is told. The only file that imports prometheus_client."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The numbers of one server; every server has a registry of its own."""

    def __init__(self, in_hand: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Nothing has happened.

        Args:
            in_hand: Asked for the pictures taken and not answered.
            waiting: Asked for the pictures that wait for the network.
        """
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        self._requests = Counter(
            "layerwise_requests", "Requests.", ["route", "status"], registry=own
        )
        self._latency = Histogram(
            "layerwise_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self._of: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        pictures = Counter(
            "layerwise_pictures", "Pictures, answered or refused.", ["result"], registry=own
        )
        self._answered, self._refused = pictures.labels("answered"), pictures.labels("refused")
        self._batches = Histogram(
            "layerwise_batch_pictures",
            "Pictures that went through the network together.",
            buckets=_PICTURES,
            registry=own,
        )
        self._inference = Histogram(
            "layerwise_inference_seconds",
            "Of the network, for a batch.",
            buckets=_SECONDS,
            registry=own,
        )
        self._model = Gauge(
            "layerwise_model", "1 for the model that answers.", ["name", "id"], registry=own
        )
        self._reloads = Counter(
            "layerwise_reloads", "Changes of the model.", ["result"], registry=own
        )
        Gauge(
            "layerwise_in_hand_pictures", "Pictures taken and not answered.", registry=own
        ).set_function(in_hand)
        Gauge(
            "layerwise_waiting_pictures", "Pictures that wait for the network.", registry=own
        ).set_function(waiting)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        if (found := self._of.get((route, status))) is None:  # looking them up takes its time
            found = self._requests.labels(route, str(status)), self._latency.labels(route)
            self._of[route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def pictures(self, answered: int, refused: int) -> None:
        """Pictures of a request."""
        self._answered.inc(answered)
        self._refused.inc(refused)

    def batch(self, pictures: int, seconds: float) -> None:
        """A batch has gone through the network."""
        self._batches.observe(pictures)
        self._inference.observe(seconds)

    def model(self, name: str, id: str) -> None:
        """Another model answers."""
        self._model.clear()
        self._model.labels(name, id).set(1)

    def reload(self, worked: bool) -> None:
        """A new model was tried."""
        self._reloads.labels("done" if worked else "failed").inc()

    def text(self) -> bytes:
        """All numbers, in Prometheus's text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

"""The residual streams of a run, each captured once, with a progress bar a pass."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from probekit.activations.residual_stream import ResidualStream
from probekit.data.documents import Split
from probekit.progress import bar
from probekit.readout import Seen
from probekit.runs.ranks import number_and_count
from probekit.runs.setup import Setup
from probekit.settings import Site

SITE_OF_MODEL: Site = "resid_post"


@dataclass(frozen=True)
class Tracked:
    """A stream with a bar, on a terminal, for each pass over it."""

    stream: ResidualStream
    label: str

    def __iter__(self) -> Iterator[Seen]:
        """Yield the batches of the stream."""
        yield from bar(self.stream, self.label, "batch", silent=number_and_count()[0] > 0)


@dataclass(frozen=True)
class Streams:
    """The residual streams of one model, each captured once.

    Attributes:
        setup: Model and text.
        layers: Layers to read.
        site: Where in a block.
        opened: Streams by split and site, filled as they are asked for.
    """

    setup: Setup
    layers: tuple[int, ...]
    site: Site
    opened: dict[tuple[Split, Site], Iterable[Seen]] = field(default_factory=dict)

    def holding(self, layers: Iterable[int]) -> "Streams":
        """Return these streams if they hold some layers, else others, of those and the last."""
        layers = {*layers, self.setup.anatomy.n_layers}
        if layers <= {*self.layers}:
            return self
        return Streams(self.setup, tuple(sorted(layers)), self.site)

    def read(self, part: Split) -> Iterable[Seen]:
        """Return the layers to read, at the site asked for."""
        return self._open(part, self.site, self.layers)

    def finals(self, part: Split) -> Iterable[Seen]:
        """Return the last layer of the residual stream, from which the model predicts."""
        if self.site == SITE_OF_MODEL:
            return self.read(part)
        return self._open(part, SITE_OF_MODEL, (self.setup.anatomy.n_layers,))

    def _open(self, part: Split, site: Site, layers: tuple[int, ...]) -> Iterable[Seen]:
        if (part, site) not in self.opened:
            stream = self.setup.stream(part, layers, site)
            self.opened[part, site] = Tracked(stream, f"{part} {site}")
        return self.opened[part, site]

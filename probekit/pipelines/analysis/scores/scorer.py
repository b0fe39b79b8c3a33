"""Fits and scores the readouts of one rank: sums by document, of which all rates are made."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from probekit.data.documents import Split
from probekit.data.targets import Targets
from probekit.pipelines import further
from probekit.pipelines.analysis import fits
from probekit.pipelines.analysis.fits import Fit, Inputs
from probekit.probes.logit_lens import LogitLens, Model
from probekit.readout import TRANSPLANT, Readout, Seen
from probekit.runs.stages import Stages
from probekit.scoring.score import score
from probekit.settings import Settings
from probekit.shapes import Mask

SCORED: tuple[Split, ...] = ("validation", "test")
# Where every readout is scored: split and set of positions.
PLACES = (("test", "all"), ("test", "marginal"), ("validation", "all"))
# Columns by whose values rows are put in order, whoever scored them.
ORDER = ("turn", "split", "layer", "offset", "positions", "document")


@dataclass(frozen=True)
class Scorer:
    """Fits and scores this rank's readouts; what is scored has a `turn`, whoever scores it."""

    inputs: Inputs
    positions: Mapping[str, Mask]
    stages: Stages
    settings: Settings

    def table(self, ngrams: Sequence[Readout], planned: Sequence[Fit]) -> pd.DataFrame:
        """Return the sums by document of all that this rank has but the ceilings."""
        return _joined([*self._fitted(planned), *self._given(ngrams)])

    def of_fits(self, planned: Sequence[Fit]) -> pd.DataFrame:
        """Return the sums by document of what this rank fits alone."""
        return _joined([*self._fitted(planned)])

    def _fitted(self, planned: Sequence[Fit]) -> Iterator[pd.DataFrame]:
        setup = self.inputs.streams.setup
        for turn, fit in enumerate(planned, start=3):
            share = fit.share(self.stages.ranks, setup.layers)
            if share is not None:
                # An untrained model is alive no longer than it is read.
                inputs = fits.inputs_of(share, self.inputs)
                probes = fits.fit_or_recall(share, inputs, setup, self.stages)
                for split in SCORED:
                    table = self._scored(split, [probes], *inputs.part(split))
                    yield table.assign(seed=fit.seed, turn=turn)

    def _given(self, ngrams: Sequence[Readout]) -> Iterator[pd.DataFrame]:
        streams, targets = self.inputs.streams, self.inputs.targets
        ranks, anatomy = self.stages.ranks, streams.setup.anatomy
        if own := ranks.share(streams.setup.layers):
            lens = [LogitLens(own, anatomy)]
            table = self._scored("test", lens, streams.read("test"), targets["test"])
            yield table.assign(seed=self.settings.seed, turn=1)
            readouts = list(further.blind(self.settings, streams.setup, own))
            for split in SCORED if readouts else ():
                table = self._scored(split, readouts, *self.inputs.part(split))
                yield table.assign(seed=self.settings.seed, turn=1)
            if TRANSPLANT in self.settings.readout:
                # What they are compared with reads no layer: one rank runs it.
                readout = further.transplants(streams.setup, targets["test"], own, ranks.first)
                table = self._scored("test", [readout], *self.inputs.part("test"), only="marginal")
                yield table.assign(seed=self.settings.seed, turn=1)
        if ranks.first:
            table = self._scored("test", [Model(anatomy)], streams.finals("test"), targets["test"])
            yield table.assign(seed=self.settings.seed, turn=0)
            for split in SCORED:
                table = self._scored(split, ngrams, *self.inputs.part(split))
                yield table.assign(seed=self.settings.seed, turn=2)

    def _scored(
        self,
        split: Split,
        readouts: Sequence[Readout],
        stream: Iterable[Seen],
        targets: Targets,
        only: str | None = None,
    ) -> pd.DataFrame:
        documents = self.inputs.streams.setup.blocks[split].documents
        where = self.positions if split == "test" else {"all": documents >= 0}
        where = {only: where[only]} if only else where
        return score(readouts, stream, targets, where, documents).assign(split=split)


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

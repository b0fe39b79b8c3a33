"""Linear probes of a study of heads: readouts beside heads, and what these start as.

A head that starts as the linear probe of the layer that it reads is not behind it, but for
rounding where the model's dtype is narrow; what it gains is what the layer holds at positions up
to t beyond what is linear at t alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from probekit.pipelines.head_study.study import SWEPT_OFFSET, Study
from probekit.probes import linear
from probekit.probes.files import read_probes, write_probes
from probekit.probes.probe import Probes
from probekit.readout import UNIGRAM

# By offset, A, b and c of a linear probe.
Starts = Mapping[int, Mapping[str, Tensor]]


def fitted(study: Study, layers: Sequence[int], offsets: Sequence[int]) -> Probes:
    """Return the linear probes of some layers and offsets, fitted first if need be."""
    setup = study.setup

    def fit() -> Probes:
        streams = study.streams(tuple(sorted({*layers, setup.anatomy.n_layers})))
        train, validation = (
            (streams.read(part), study.targets[part].only(offsets))
            for part in ("train", "validation")
        )
        return linear.fit(train, validation, setup.anatomy, layers)

    path = study.stages.file(
        f"linear-{_listed(layers)}-{_listed(offsets)}.safetensors",
        fit,
        partial(write_probes, metadata={"model_fingerprint": setup.fingerprint}),
        label=f"fit linear probes of layers {_listed(layers, ', ')}",
    )
    return read_probes(path, setup.anatomy, setup.fingerprint)


def starts(probes: Probes, layer: int) -> Starts:
    """Return by offset what heads that read a layer start as.

    Where validation prefers the unigram, a probe that ignores its layer, there is none: the head
    starts as the logit lens.
    """
    return {
        offset: fitted_probe.tensors
        for (of, offset), fitted_probe in probes.probes.items()
        if of == layer and fitted_probe.chosen != UNIGRAM
    }


def fitted_in_sweep(study: Study) -> bool:
    """Return whether the sweep fits the probes of the layer that strategies read."""
    same = study.read_layer in study.swept and study.settings.offsets == SWEPT_OFFSET
    return study.sweeps and same


def of_read_layer(study: Study) -> Probes:
    """Return the probes of the layer that strategies read, at all offsets beyond the first."""
    read, offsets = study.read_layer, tuple(range(2, study.settings.offsets + 1))
    probes = fitted(study, study.swept if fitted_in_sweep(study) else (read,), offsets)
    return replace(
        probes, probes={at: probe for at, probe in probes.probes.items() if at[0] == read}
    )


def _listed(numbers: Sequence[int], separator: str = "_") -> str:
    return separator.join(map(str, numbers))

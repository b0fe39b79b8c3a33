"""Linear probes of a study of heads: what its sweep stands beside, and where heads start.

A head that starts as the linear probe of the layer that it reads is not behind it, but for
rounding where the model's dtype is narrow; what it gains is what the layer holds at positions up
to t beyond what is linear at t alone.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from probekit import files
from probekit.pipelines.head_study.study import SWEPT_OFFSET, Study
from probekit.probes import linear
from probekit.probes import probe as probes
from probekit.probes.probe import Probes

# By offset, A, b and c of a linear probe.
Starts = Mapping[int, Mapping[str, Tensor]]

# A probe that ignores its layer: behind it nothing could be learned.
IGNORES = "unigram"


def fitted(study: Study, layers: Sequence[int], offsets: Sequence[int]) -> Probes:
    """Return the linear probes of some layers and offsets, fitted first if need be."""
    name = f"{_listed(layers)}-{_listed(offsets)}"
    path, setup = study.path(f"linear-{name}.safetensors"), study.setup
    if not path.exists():
        with study.journal.stage(f"fit linear probes of layers {_listed(layers, ', ')}"):
            streams = study.streams(tuple(sorted({*layers, setup.anatomy.n_layers})))
            train, validation = (
                (streams.read(part), study.targets[part].only(offsets))
                for part in ("train", "validation")
            )
            found = linear.fit(train, validation, setup.anatomy, layers)
            notes = {"model_fingerprint": setup.fingerprint}
            files.write(path, lambda temporary: probes.save(found, temporary, notes))
    return probes.load(path, setup.anatomy, setup.fingerprint)


def starts(found: Probes, layer: int) -> Starts:
    """Return by offset what heads that read a layer start as.

    Where validation prefers the unigram to a probe that reads the layer there is none: the head
    starts as the logit lens.
    """
    return {
        offset: probe.tensors
        for (of, offset), probe in found.probes.items()
        if of == layer and probe.chosen != IGNORES
    }


def probes_of_read_layer(study: Study) -> Starts:
    """Return the probes of the layer that strategies read, at all offsets beyond the first."""
    read, offsets = study.settings.read, tuple(range(2, study.settings.offsets + 1))
    read = study.setup.anatomy.n_layers - 1 if read is None else read
    # The sweep fits these too, where it reads the layer at the same offsets.
    shared = study.sweeps and read in study.swept and offsets == (SWEPT_OFFSET,)
    return starts(fitted(study, study.swept if shared else (read,), offsets), read)


def _listed(numbers: Sequence[int], separator: str = "_") -> str:
    return separator.join(map(str, numbers))

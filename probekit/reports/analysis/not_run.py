"""What a reader might look for and will not find, and the flag that would bring it."""

from collections.abc import Iterator
from typing import get_args

from probekit.readout import FURTHER, LENS, LINEAR, MARGINAL, MARGINAL_ADAPTED, TRANSPLANT
from probekit.reports.analysis.rows import MODEL_TARGET, RunRows
from probekit.scoring.rates import MUCH_ADAPTATION_NATS
from probekit.settings import Family


def not_run(run: RunRows) -> list[str]:
    """Return a sentence for each thing that was not part of a run."""
    return [*_ceilings(run), *_controls(run), *_probes(run), *_rest(run)]


def _ceilings(run: RunRows) -> Iterator[str]:
    if not run.has(MARGINAL):
        yield (
            "Marginalization: without it there is no ceiling from t+2 on (--marginal nucleus "
            "runs it where --offsets is 2 or more)."
        )
        return
    beyond = [k for k in run.offsets if not run.branching(k, run.domains[0], MARGINAL) and k > 1]
    if beyond:
        yield (
            f"Marginalization beyond t+{beyond[0] - 1}: no share is told of the offsets from there "
            f"on (--marginal-offsets {beyond[-1]})."
        )
    if not run.has(MARGINAL_ADAPTED):
        yield (
            "The ceiling with the adapted output layer (it runs where adaptation exceeds "
            f"{MUCH_ADAPTATION_NATS} nats)."
        )


def _controls(run: RunRows) -> Iterator[str]:
    ran = run.results.get("controls") or ()
    if not ran:
        yield "The controls: permuted targets, and the probe behind untrained blocks (--controls)."
        return
    if not any(row["random_draws"] for row in ran):
        yield "The probe behind untrained blocks: there was no room for a second model."
    offsets, layers = (sorted({row[name] for row in ran}) for name in ("offset", "layer"))
    skipped = []
    if set(offsets) < set(run.offsets):
        skipped.append(f"offsets other than {_listed(offsets)}")
    if set(layers) < set(run.layers(LINEAR)) - {0}:
        skipped.append(f"layers other than {_listed(layers)}")
    if skipped:
        yield f"The controls at {' and '.join(skipped)} (--controls all)."
    if len({row["seed"] for row in ran}) == 1:
        yield "The control with targets permuted by further seeds (--seeds)."


def _probes(run: RunRows) -> Iterator[str]:
    ran = {row["readout"] for row in run.results["scores"]}
    others = [name for name in get_args(Family) if name not in ran]
    if others:
        yield f"Other probe families: {_listed(others)} (--probe)."
    layers = run.layers(run.probe or "")
    if layers and len(layers) <= run.n_layers:
        yield f"Layers other than {_listed(layers)} (--layers)."
    if LENS not in ran:
        yield "The logit lens."
    further = [name for name in (*FURTHER, TRANSPLANT) if name not in ran]
    if further:
        yield f"Further readouts: {_listed(further)} (--readout)."
    if not any(name.startswith("head:") for name in ran):
        yield "Trained heads: none were scored in this run."


def _rest(run: RunRows) -> Iterator[str]:
    if not run.results.get("codelength"):
        yield "The online codelength of the probes (--codelength)."
    if not run.results.get("causal"):
        yield "Whether the model uses what is read of later tokens (--causal best)."
    if not run.results.get("sequences"):
        yield "Several tokens at once (from --offsets 2 on)."
    if run.target != MODEL_TARGET:
        yield "Scores against the model's own greedy continuation (--target model)."


def _listed(names: "list[str] | list[int] | tuple[int, ...]") -> str:
    return ", ".join(str(name) for name in names)

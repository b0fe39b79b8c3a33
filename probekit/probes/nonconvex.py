"""Probes whose objective is not convex, trained by AdamW: `mlp` and `linear-lowrank`.

    mlp             U (A z + b + W silu(V z + v)) + c       U frozen, W square
    linear-lowrank  B (A z) + c                             of rank 32, B free

Both start where a closed form puts them: the lens at (L, 1), elsewhere the ridge regression
of the last layer's z at t + k - 1 on z. The mlp starts there exactly, its bend W at 0 as in
the residual block of Medusa (Cai et al., 2024); linear-lowrank at the logits of the closed
form, cut to the rank at which they lose least in mean square.

The recipe is one for all models, in the coordinates of `probekit.probes.nonconvex_families`. AdamW
(Loshchilov & Hutter, 2019) takes minibatches of positions, shuffled within a batch of the
stream, at a rate that falls to 0 on a cosine. Its decay pulls every value to where it
started, not to 0, as the penalty of the linear probe does. After each epoch validation looks
at every cell: its best values are kept, and a cell that has not improved for some epochs is
left alone. All cells advance from the same passes, each with a generator of its own: none
depends on which others there are.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from probekit.errors import SettingsError
from probekit.models.anatomy import Anatomy
from probekit.probes.grid import GridCell, cell_batches, cell_moments, grid_cells, mean_nats
from probekit.probes.nonconvex_families import FAMILIES, Parameters, Start, UnitOutput
from probekit.probes.probe import Examples, Probe, Probes
from probekit.readout import Seen
from probekit.scoring import losses

# The rate times the root of the number of inputs, so that a step moves the outputs alike at
# any width. Chosen on 19,000 positions of a model of width 128, by validation: a third of it
# is not at the minimum after ten epochs, three times learns the text by heart after three.
RATE = 0.01
# 0.3 was worse by 0.003 and 0.010 nats of validation, mlp and linear-lowrank.
DECAY = 1.0
# Positions of a minibatch, and fewer where an epoch would have fewer steps than this: what
# little text there is has to move the values from where they start.
MINIBATCH = 256
LEAST_STEPS = 64
MOST_EPOCHS = 20
PATIENCE = 3
# Adam's own (Kingma & Ba, 2015).
MEMORY, MEMORY_OF_SQUARES, SMALL = 0.9, 0.999, 1e-8


@torch.no_grad()
def fit(  # noqa: PLR0913 -- the data, the model, where to read, what to train, how to draw
    train: Examples,
    validation: Examples,
    anatomy: Anatomy,
    layers: Sequence[int],
    family: str,
    *,
    seed: int,
    finals: Iterable[Seen] | None = None,
) -> Probes:
    """Train a probe for every layer and every offset of the targets.

    Args:
        train: A re-iterable stream that holds `layers` and the last layer, and its targets.
        validation: The same for the positions that say when to stop.
        anatomy: How the model decodes its residual stream.
        layers: Layers to read.
        family: `mlp` or `linear-lowrank`.
        seed: Seed of the first values and of the order of positions.
        finals: Where `train` reads another site than `resid_post`: a stream of the same
            blocks that holds the last layer of `resid_post`.

    Returns:
        Probes for each (layer, offset), in the coordinates of z. `chosen` is `start` where
        no epoch was better than the start, else `trained`; `penalty` is the decay.

    Raises:
        SettingsError: If the family is not one of these.
        DataError: If a cell has no position to train on, or none to validate on.
    """
    if family not in FAMILIES:
        raise SettingsError(f"family must be {' or '.join(FAMILIES)}, got {family!r}")
    cells = grid_cells(layers, train[1].valid)
    moments, output = cell_moments(train, finals, anatomy, cells), UnitOutput(anatomy)
    fits = {}
    for cell in cells:
        start = Start(moments[cell], output, cell.starts_at_lens(anatomy, finals))
        fits[cell] = _Fit(start, moments.pop(cell).count, family, seed)
    _validate(validation, anatomy, fits)
    n_passes = 1
    while active := {cell: fit for cell, fit in fits.items() if fit.goes_on}:
        for cell, z, ids in cell_batches(train, anatomy, active):
            fits[cell].learn(z, ids)
        for fit in active.values():
            fit.epochs += 1
        _validate(validation, anatomy, active)
        n_passes += 1
    return Probes({cell.key: fit.probe for cell, fit in fits.items()}, anatomy, n_passes, family)


class _Fit:
    """One cell while it is trained."""

    def __init__(self, start: Start, count: int, family: str, seed: int) -> None:
        self.frame, self.count = start.frame, count
        self.family = FAMILIES[family]
        self.rate = RATE / math.sqrt(len(self.frame.mean))
        self.draw = torch.Generator().manual_seed(seed)
        self.frozen = start.output.narrow
        self.origin = self.family.start(start, self.draw)
        self.values = {name: value.clone() for name, value in self.origin.items()}
        self.slopes = {name: torch.zeros_like(value) for name, value in self.origin.items()}
        self.squares = {name: torch.zeros_like(value) for name, value in self.origin.items()}
        self.n_steps = self.n_learned = self.epochs = self.best_epoch = 0
        self.kept, self.best_nats = self.origin, math.inf

    @property
    def goes_on(self) -> bool:
        """Whether there are epochs left, and validation has not lost its patience."""
        return self.epochs < MOST_EPOCHS and self.epochs - self.best_epoch < PATIENCE

    @property
    def output(self) -> Tensor:
        return self.values.get("B", self.frozen)

    def summed_nats(self, z: Tensor, ids: Tensor) -> float:
        hidden = self.family.hidden(self.values, self.frame.inputs(z))
        return losses.summed_nats(hidden, self.output, self.values["c"], ids)

    def learn(self, z: Tensor, ids: Tensor) -> None:
        """Take a step for each minibatch of a batch."""
        if not len(z):
            return
        x = self.frame.inputs(z)
        order = torch.randperm(len(x), generator=self.draw).to(x.device)
        # Of nearly equal size: no step is taken on a few positions that are left over.
        size = min(MINIBATCH, math.ceil(self.count / LEAST_STEPS))
        for chosen in order.tensor_split(math.ceil(len(x) / size)):
            progress = self.n_learned / (MOST_EPOCHS * self.count)
            rate = self.rate * (1 + math.cos(math.pi * progress)) / 2
            self._step(self._gradients(x[chosen], ids[chosen]), rate)
            self.n_learned += len(chosen)

    def _gradients(self, x: Tensor, ids: Tensor) -> Parameters:
        """Return the gradient of the mean cross-entropy by each of the values."""
        inner = {name: value for name, value in self.values.items() if name not in ("B", "c")}
        with torch.enable_grad():
            leaves = {name: value.detach().requires_grad_() for name, value in inner.items()}
            hidden = self.family.hidden(leaves, x)
        # The last layer in closed form, in chunks of positions; autograd for what is below it.
        last_layer = hidden.detach(), self.output, self.values["c"], ids
        if "B" in self.values:
            by_hidden, summed = _free_output_gradient(*last_layer)
        else:
            gradient = losses.cross_entropy(*last_layer)
            by_hidden, summed = gradient.hidden, {"c": gradient.bias}
        by_leaf = torch.autograd.grad(hidden, list(leaves.values()), by_hidden)
        summed |= dict(zip(leaves, by_leaf, strict=True))
        return {name: total / len(x) for name, total in summed.items()}

    def _step(self, gradients: Parameters, rate: float) -> None:
        # torch.optim has decay to 0 alone, and took seconds to import.
        self.n_steps += 1
        bias = 1 - MEMORY**self.n_steps
        bias_of_squares = 1 - MEMORY_OF_SQUARES**self.n_steps
        for name, gradient in gradients.items():
            slope, square = self.slopes[name], self.squares[name]
            slope.lerp_(gradient, 1 - MEMORY)
            square.lerp_(gradient.square(), 1 - MEMORY_OF_SQUARES)
            value = self.values[name].lerp_(self.origin[name], rate * DECAY)
            value.addcdiv_(
                slope, (square / bias_of_squares).sqrt_().add_(SMALL), value=-rate / bias
            )

    def judge(self, nats: float) -> None:
        """Keep the values if validation likes them best."""
        if nats < self.best_nats:
            self.best_nats, self.best_epoch = nats, self.epochs
            self.kept = {name: value.clone() for name, value in self.values.items()}

    @property
    def probe(self) -> Probe:
        return Probe(
            tensors=self.family.unfold(self.kept, self.frame),
            chosen="trained" if self.best_epoch else "start",
            penalty=DECAY,
            excess_nats=None,
            converged=self.epochs < MOST_EPOCHS,
            validation_nats=self.best_nats,
        )


def _free_output_gradient(
    hidden: Tensor, output: Tensor, bias: Tensor, ids: Tensor
) -> tuple[Tensor, Parameters]:
    """Return the gradient of the summed cross-entropy by `hidden`, and by B and c."""
    length = losses.chunk_length(len(output), hidden.device)
    by_hidden, summed = [], {"B": torch.zeros_like(output), "c": torch.zeros_like(bias)}
    for inputs, targets in zip(hidden.split(length), ids.split(length), strict=True):
        # Of one position's cross-entropy by its logits: softmax less 1 at the target.
        excess = torch.addmm(bias, inputs, output.T).softmax(dim=1)
        excess.scatter_add_(1, targets[:, None], excess.new_full((len(targets), 1), -1.0))
        summed["B"].addmm_(excess.T, inputs)
        summed["c"] += excess.sum(dim=0)
        by_hidden.append(excess @ output)
    return torch.cat(by_hidden), summed


def _validate(part: Examples, anatomy: Anatomy, fits: Mapping[GridCell, _Fit]) -> None:
    """Show each cell its mean cross-entropy on the validation positions."""
    candidates = {cell: {fit.epochs: fit.summed_nats} for cell, fit in fits.items()}
    for cell, nats in mean_nats(part, anatomy, candidates).items():
        fits[cell].judge(nats[fits[cell].epochs])

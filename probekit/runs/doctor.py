"""Is every assumption true of this model? Each is measured on a little of the text at hand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from probekit.activations.residual_stream import stream
from probekit.checks import Check
from probekit.errors import DataError, NumericalError
from probekit.models.anatomy import Anatomy
from probekit.models.loading import Loaded
from probekit.models.quantization import noise
from probekit.models.rounding import tolerance
from probekit.shapes import Mask, TokenIds

# Enough to differ by row and position, little enough to run before every analysis.
BLOCKS = 4
TOKENS = 64

# A model that has learnt anything of a text is further below the uniform distribution: one
# trained for minutes is at half of it.
TRAINED = 0.9


@dataclass(frozen=True)
class _Reference:
    """What the model itself says of a text: logits, hidden states if it gives any, their dtype."""

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None
    dtype: torch.dtype


# Checks whose failure a reader must know of, but which forbid nothing.
ADVISORY = frozenset({"training", "separator"})
# Checks that depend on the text: on one that is not the model's they say nothing against it.
OF_TEXT = frozenset({"training", "separator", "lost text"})
NOT_ITS_TEXT = (
    "This was measured on the built-in text, which need not be this model's: give it text of its "
    "own with --text."
)


def check_model(
    loaded: Loaded, anatomy: Anatomy, token_ids: TokenIds, valid: Mask | None = None
) -> list[Check]:
    """Check what an analysis assumes of a model; quick enough to precede every one.

    Args:
        loaded: The model.
        anatomy: Its anatomy.
        token_ids: Real text, shape (block, pos); the first 4 blocks of 64 tokens are used.
        valid: Positions whose next token is text to predict, shape (block, pos); all by default.

    Returns:
        One check an assumption; only the failed one if activations are not finite.

    Raises:
        DataError: If there are fewer than two tokens.
    """
    token_ids = token_ids[:BLOCKS, :TOKENS]
    if token_ids.numel() == 0 or token_ids.shape[1] < 2:
        raise DataError(f"checking a model takes 2 tokens or more, got {tuple(token_ids.shape)}")
    model = loaded.model
    hooks = _hooks(model)
    try:
        resid = _capture(model, anatomy, token_ids, len(token_ids))
        one_by_one = _capture(model, anatomy, token_ids, 1)
        other_end = _capture(model, anatomy, _with_another_end(token_ids[:1], anatomy), 1)
    except NumericalError as error:
        return [Check("finite activations", False, 1.0, 0.0, str(error))]
    hooks_left = _hooks(model) - hooks
    reference = _reference(model, token_ids)
    return [
        _finite(),
        _decoding(anatomy, resid, reference),
        _layers(resid, reference),
        _batching(resid, one_by_one, noise(model)),
        _causality(one_by_one, other_end, noise(model)),
        _removed(hooks_left),
        _trained(reference.logits, token_ids, None if valid is None else valid[:BLOCKS, :TOKENS]),
    ]


def unsettled(check: Check, text_given: bool) -> bool:
    """Return whether a check failed that says more of the text than of the model."""
    return not (check.passed or text_given) and check.name in OF_TEXT


def lines(checks: Sequence[Check], text_given: bool = True) -> list[str]:
    """Return the checks as lines of a plain-text table, for a terminal.

    Args:
        checks: The checks.
        text_given: Whether the text was named; if not, it need not be the model's.

    >>> for line in lines([Check("hooks", True, 0.0, 0.0, "None was left behind.")]):
    ...     print(line)
            check  measured  allowed
    ok      hooks         0        0  None was left behind.
    """
    width = max([len("check"), *(len(check.name) for check in checks)])
    anatomy = f"{'':6}  {'check':{width}}  {'measured':>8}  {'allowed':>7}"
    return [anatomy, *(_line(check, width, text_given) for check in checks)]


def _line(check: Check, width: int, text_given: bool) -> str:
    verdict, message = "ok" if check.passed else "FAILED", check.message
    if unsettled(check, text_given):
        verdict, message = "text?", f"{message} {NOT_ITS_TEXT}"
    numbers = f"{check.measured:>8.3g}  {check.allowed:>7.2g}"
    return f"{verdict:6}  {check.name:{width}}  {numbers}  {message}"


def _capture(
    model: PreTrainedModel, anatomy: Anatomy, token_ids: TokenIds, batch_size: int
) -> dict[int, Tensor]:
    layers = range(anatomy.n_layers + 1)
    batches = list(stream(model, anatomy, token_ids, layers, batch_size=batch_size))
    return {layer: torch.cat([seen.resid[layer] for seen in batches]) for layer in layers}


def _reference(model: PreTrainedModel, token_ids: TokenIds) -> _Reference:
    with torch.no_grad():
        output = model(token_ids.to(model.device), output_hidden_states=True, use_cache=False)
    return _Reference(output.logits, output.hidden_states, model.dtype)


def _hooks(model: PreTrainedModel) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def _finite() -> Check:
    return Check("finite activations", True, 0.0, 0.0, "All activations are finite numbers.")


def _decoding(anatomy: Anatomy, resid: dict[int, Tensor], reference: _Reference) -> Check:
    with torch.no_grad():
        decoded = anatomy.decode(resid[anatomy.n_layers])
    measured = _difference(decoded, reference.logits)
    allowed = tolerance(reference.dtype) * float(reference.logits.abs().max())
    says = "Decoding the last captured layer gives the model's own logits (largest difference)."
    otherwise = (
        "Decoding the last captured layer does not give the model's logits: this model does "
        "something after its blocks that is not understood. Use another model."
    )
    return _check("decoding", measured, allowed, says, otherwise)


def _layers(resid: dict[int, Tensor], reference: _Reference) -> Check:
    """Compare with hidden_states but for its last, which is normed.

    They start with the input of the first block or, in some state-space models, with the
    output of the first block; one of the two must fit all layers.
    """
    if reference.hidden_states is None:
        without = "The model gives no hidden states to compare with; decoding is its own."
        return Check("layers", True, 0.0, 0.0, without)
    n_layers = len(resid) - 1
    states = reference.hidden_states[:n_layers]
    shifts = [
        max(_relative(resid[at + shift], state) for at, state in enumerate(states))
        for shift in (0, 1)
    ]
    says = "Every captured layer is the model's own hidden state (largest relative difference)."
    otherwise = (
        "A captured layer is not the model's own hidden state: layers are off by one, or blocks "
        "are not where they were found. Use another model."
    )
    allowed = tolerance(reference.dtype)
    return _check("layers", min(shifts), allowed, says, otherwise)


def _with_another_end(token_ids: TokenIds, anatomy: Anatomy) -> TokenIds:
    """Return the tokens with every one of the second half another one."""
    changed = token_ids.clone()
    later = changed[:, token_ids.shape[1] // 2 :]
    later.copy_((later + 1) % anatomy.vocab_size)
    return changed


def _causality(resid: dict[int, Tensor], other_end: dict[int, Tensor], allowed: float) -> Check:
    """Compare the first half of the first block with the same before another second half."""
    earlier = other_end[0].shape[1] // 2
    measured = max(
        _relative(other[:, :earlier], resid[layer][:1, :earlier])
        for layer, other in other_end.items()
    )
    says = "Later tokens do not change earlier states (largest relative difference)."
    otherwise = (
        "Later tokens change earlier states, as in an encoder: what a probe reads ahead would be "
        "what it was shown. Choose a causal (decoder-only) language model."
    )
    return _check("causality", measured, allowed, says, otherwise)


def _batching(resid: dict[int, Tensor], one_by_one: dict[int, Tensor], allowed: float) -> Check:
    last = resid[max(resid)]
    measured = _relative(one_by_one[max(resid)], last)
    says = "The batch size does not change activations (largest relative difference)."
    otherwise = "Activations depend on the batch size, so results would too. Use --dtype float32."
    return _check("batching", measured, allowed, says, otherwise)


def _removed(left: int) -> Check:
    says = "Capturing leaves no hook behind (number of hooks)."
    otherwise = "Capturing left hooks in the model, which slow it down. Load it again."
    return _check("hooks", float(left), 0.0, says, otherwise)


def _trained(logits: Tensor, token_ids: TokenIds, valid: Mask | None) -> Check:
    scored = torch.ones_like(token_ids, dtype=torch.bool)
    if valid is not None and bool(valid[:, :-1].any()):  # a prompt may be longer than TOKENS
        scored = valid
    scored = scored[:, :-1].to(logits.device)
    targets = token_ids[:, 1:].to(logits.device)[scored]
    loss = torch.nn.functional.cross_entropy(logits[:, :-1][scored].float(), targets)
    says = "The model predicts this text far better than chance (nats per token)."
    otherwise = (
        "The model predicts this text hardly better than a uniform guess: it is untrained, its "
        "weights are broken, or text (--text) and tokenizer are not its own. Check all three."
    )
    allowed = TRAINED * math.log(logits.shape[-1])
    return _check("training", float(loss), allowed, says, otherwise)


def _difference(value: Tensor, reference: Tensor) -> float:
    if value.shape != reference.shape:
        return math.inf
    return float((value.float() - reference.to(value.device).float()).abs().max())


def _relative(value: Tensor, reference: Tensor) -> float:
    """Return the largest difference as a share of the largest value; 0 of zeros from zeros."""
    largest = float(reference.abs().max())
    return _difference(value, reference) / max(largest, torch.finfo(torch.float32).tiny)


def _check(name: str, measured: float, allowed: float, says: str, otherwise: str) -> Check:
    passed = measured <= allowed
    return Check(name, passed, measured, allowed, says if passed else otherwise)

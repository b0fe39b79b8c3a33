"""Three routes by which branch tokens run through a model, and which of them a model allows.

A branch token sits at depth 1, 2, ... after the end of a prefix; it must see the prefix up to
there, its ancestors and itself, and nothing else. Tokens of one level never see each other.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from probekit.shapes import Hidden, Targets1d

Route = Literal["packed", "expanded", "one-by-one"]
KeysValues = list[tuple[Tensor, Tensor]]  # by layer, each of shape (1, heads, n, head)

ROUTES: tuple[Route, ...] = ("packed", "expanded", "one-by-one")
PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
# The argument that takes keys and values: since transformers 5.24, and before.
CACHE_NAMES = ("cache", "past_key_values")


@dataclass
class Context:
    """What a level can see: the block, and the levels above it.

    Attributes:
        token_ids: Token ids of the block, shape (pos,).
        cache: Its keys and values by layer; empty on the route one-by-one.
        levels: Of each level above: its tokens, and its keys and values.
    """

    token_ids: Int[Tensor, " pos"]
    cache: KeysValues
    levels: Sequence[tuple[Tensor, KeysValues]]  # not Targets1d: each level has its own length


class _Entered(BaseException):
    """What enters the output embeddings is known, and the pass ends here.

    Not an `Exception`, so that a model that catches those does not swallow it.
    """


@dataclass(frozen=True)
class Nodes:
    """Nodes of one level: token, position of the prefix's end, ancestor in each level above.

    The first ancestor is that position; the others are places in the levels above.
    """

    tokens: Targets1d
    ends: Targets1d
    lineage: tuple[Targets1d, ...]

    def __getitem__(self, rows: slice | Tensor) -> "Nodes":
        return Nodes(self.tokens[rows], self.ends[rows], tuple(a[rows] for a in self.lineage))

    @classmethod
    def joined(cls, parts: Sequence["Nodes"]) -> "Nodes":
        """Return the nodes of several parts, one after another."""
        lineages = zip(*(part.lineage for part in parts), strict=True)
        tokens, ends = (torch.cat([getattr(p, name) for p in parts]) for name in ("tokens", "ends"))
        return cls(tokens, ends, tuple(torch.cat(ancestors) for ancestors in lineages))


def run_block(
    route: Route, model: PreTrainedModel, token_ids: Int[Tensor, " pos"]
) -> tuple[Hidden, KeysValues]:
    """Run a block, so that branches can start anywhere in it.

    Returns:
        What enters the output embeddings, shape (pos, hidden), and its keys and values by layer,
        each of shape (1, heads, pos, head); none on the route one-by-one.
    """
    if route == "one-by-one":
        return _hidden(model, input_ids=token_ids[None], use_cache=False)[0], []
    cache = DynamicCache()  # without config: a config would drop what is outside the window
    hidden = _hidden(model, input_ids=token_ids[None], **cache_arguments(model, cache))
    return hidden[0], [(k, v) for k, v, *_ in cache]


def run(
    route: Route, model: PreTrainedModel, context: Context, nodes: Nodes
) -> tuple[Hidden, KeysValues]:
    """Run nodes of one level; those of one position only, unless the route is packed.

    Returns:
        What enters the output embeddings, shape (n, hidden), and the nodes' keys and values by
        layer, each of shape (1, heads, n, head); none on the route one-by-one.
    """
    with torch.no_grad():
        return _RUN[route](model, context, nodes)


def _hidden(model: PreTrainedModel, **arguments: Any) -> Tensor:
    """Return what enters the output embeddings, which are not run."""
    entered: list[Tensor] = []

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        entered.append(inputs[0])
        raise _Entered

    handle = model.get_output_embeddings().register_forward_pre_hook(stop)
    try:
        model(**arguments)
    except _Entered:
        pass
    finally:
        handle.remove()
    return entered[0]


def joined(caches: Sequence[KeysValues]) -> KeysValues:
    """Join keys and values of the same layers along their tokens."""
    if len(caches) == 1:
        return caches[0]  # what torch.cat would copy
    return [
        (torch.cat([k for k, _ in layer], dim=2), torch.cat([v for _, v in layer], dim=2))
        for layer in zip(*caches, strict=True)
    ]


def _packed(model: PreTrainedModel, context: Context, nodes: Nodes) -> tuple[Hidden, KeysValues]:
    """Run nodes of several positions in one sequence, kept apart by the mask."""
    prefix = torch.arange(int(nodes.ends.max()) + 1, device=nodes.tokens.device)
    seen = [prefix, *(ancestors.unique() for ancestors in nodes.lineage[1:])]
    parts = [[(k[:, :, : len(prefix)], v[:, :, : len(prefix)]) for k, v in context.cache]]
    for (_, level), places in zip(context.levels, seen[1:], strict=True):
        parts.append([(k[:, :, places], v[:, :, places]) for k, v in level])
    cache = DynamicCache(joined(parts))
    masks = {
        kind: additive(_visible(nodes, seen, window), model.dtype)
        for kind, window in windows(model).items()
    }
    hidden = _hidden(
        model,
        input_ids=nodes.tokens[None],
        attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
        position_ids=(nodes.ends + len(nodes.lineage))[None],
        **cache_arguments(model, cache),
    )
    n = len(nodes.tokens)
    return hidden[0], [(k[:, :, -n:], v[:, :, -n:]) for k, v, *_ in cache]


def _visible(
    nodes: Nodes, seen: Sequence[Tensor], window: int | None
) -> Bool[Tensor, "nodes keys"]:
    """Return which keys a node sees: prefix, then each level above, then its own level."""
    depth, n, device = len(nodes.lineage), len(nodes.tokens), nodes.tokens.device
    reach = window if window is not None else int(nodes.ends.max()) + depth + 1
    prefix, ends = seen[0], nodes.ends[:, None]
    parts = [(prefix <= ends) & (ends + depth - prefix < reach)]
    for level, (places, ancestors) in enumerate(
        zip(seen[1:], nodes.lineage[1:], strict=True), start=1
    ):
        ancestor = places == ancestors[:, None]
        parts.append(ancestor & (depth - level < reach))
    parts.append(torch.eye(n, dtype=torch.bool, device=device))
    return torch.cat(parts, dim=1)


def additive(visible: Bool[Tensor, "nodes keys"], dtype: torch.dtype) -> Tensor:
    """Return 0 where visible and the dtype's minimum elsewhere, shape (1, 1, nodes, keys).

    A boolean mask is added to the scores by eager attention, and wrong without a word.
    """
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[None, None]


def _expanded(model: PreTrainedModel, context: Context, nodes: Nodes) -> tuple[Hidden, KeysValues]:
    """Run nodes of one position as a batch, each with its own copy of what it sees."""
    n, end = len(nodes.tokens), int(nodes.ends[0])
    parts: list[KeysValues] = [
        [
            (k[:, :, : end + 1].expand(n, -1, -1, -1), v[:, :, : end + 1].expand(n, -1, -1, -1))
            for k, v in context.cache
        ]
    ]
    for (_, level), ancestors in zip(context.levels, nodes.lineage[1:], strict=True):
        parts.append(
            [(_upright(k[:, :, ancestors]), _upright(v[:, :, ancestors])) for k, v in level]
        )
    cache = DynamicCache(joined(parts))
    places = (nodes.ends + len(nodes.lineage))[:, None]
    extra: dict[str, Any] = {}
    if "position_ids" in parameters(model):
        extra["position_ids"] = places
    extra |= cache_arguments(model, cache)
    hidden = _hidden(model, input_ids=nodes.tokens[:, None], **extra)
    return hidden[:, -1], [(_upright(k[:, :, -1:]), _upright(v[:, :, -1:])) for k, v, *_ in cache]


def _upright(x: Tensor) -> Tensor:
    """Turn (1, heads, n, head) into (n, heads, 1, head), or back."""
    return x.transpose(0, 2)


def _one_by_one(
    model: PreTrainedModel, context: Context, nodes: Nodes
) -> tuple[Hidden, KeysValues]:
    """Run each path from the start of the block."""
    above = [
        tokens[ancestors]
        for (tokens, _), ancestors in zip(context.levels, nodes.lineage[1:], strict=True)
    ]
    paths = torch.stack([*above, nodes.tokens], dim=1)
    extra = {"logits_to_keep": 1} if "logits_to_keep" in parameters(model) else {}
    rows = []
    for end, path in zip(nodes.ends.tolist(), paths, strict=True):
        whole = torch.cat([context.token_ids[: end + 1], path])
        rows.append(_hidden(model, input_ids=whole[None], use_cache=False, **extra)[0, -1])
    return torch.stack(rows), []


_RUN = {"packed": _packed, "expanded": _expanded, "one-by-one": _one_by_one}


def cache_arguments(model: PreTrainedModel, cache: DynamicCache) -> dict[str, Any]:
    """Return the arguments by which a model's forward pass reads and extends a cache."""
    name = next(name for name in CACHE_NAMES if name in parameters(model))
    return {name: cache, "use_cache": True}


def parameters(model: PreTrainedModel) -> set[str]:
    """Return the names of the arguments that a model's forward pass takes."""
    return set(inspect.signature(model.forward).parameters)


def windows(model: PreTrainedModel) -> dict[str, int | None]:
    """Return the window by kind of layer; None where a layer sees everything before it."""
    config = model.config.get_text_config()
    kinds = sorted(set(getattr(config, "layer_types", None) or ()))
    window = getattr(config, "sliding_window", None)
    if not kinds:
        return {"every layer": window}
    return {kind: window if kind == "sliding_attention" else None for kind in kinds}


def objection(model: PreTrainedModel, route: Route) -> str | None:
    """Return why a route cannot be right for a model, as far as its configuration says."""
    config, takes = model.config.get_text_config(), parameters(model)
    if route == "one-by-one":
        return None
    if takes.isdisjoint(CACHE_NAMES) or _keeps_other_states(model):
        return f"{config.model_type} has no cache of keys and values alone"
    if route == "expanded":
        return None
    if "position_ids" not in takes or getattr(config, "alibi", False):
        return f"{config.model_type} takes a token's place from the sequence (ALiBi)"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention {config._attn_implementation} takes no mask of our own"
    kinds = set(windows(model)) - {"every layer"} - PACKABLE_LAYERS
    return f"layers of kind {', '.join(sorted(kinds))}" if kinds else None


def _keeps_other_states(model: PreTrainedModel) -> bool:
    """Whether some layers keep a state that no row can be taken out of, as convolutions do."""
    if getattr(model, "_is_stateful", False):
        return True
    config = model.config.get_text_config()
    layers = DynamicCache(config=config).layers if getattr(config, "layer_types", None) else ()
    return any(hasattr(layer, "update_conv_state") for layer in layers)


def choose(model: PreTrainedModel, after: Route | None = None) -> tuple[Route, str]:
    """Return the first route (after a given one) without an objection, and the objections."""
    objections: list[str] = []
    for route in ROUTES[0 if after is None else ROUTES.index(after) + 1 :]:
        why_not = objection(model, route)
        if why_not is None:
            return route, "; ".join(objections) or "the fastest route suits this model"
        objections.append(f"not {route}: {why_not}")
    raise AssertionError("one-by-one has no objection")

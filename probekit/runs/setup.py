"""From settings to what an analysis works on: a model, its anatomy, token blocks, a plan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from probekit.activations.residual_stream import ResidualStream, stream
from probekit.checks import Check
from probekit.data import dataset
from probekit.data.blocks import Blocks, TokenizedDocument, blocks_by_split, shortened
from probekit.data.documents import Split
from probekit.errors import ModelError, SettingsError
from probekit.marginalization.branch_engine import BranchEngine
from probekit.models import loading
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.models.loading import Loaded
from probekit.runs import doctor, plan, separator
from probekit.runs.ranks import Ranks
from probekit.settings import (
    MARGINALIZED,
    MARGINALIZED_ON_CPU,
    SMALL_PARAMETERS,
    TOKENS_ELSEWHERE,
    AnySettings,
    RunSettings,
    Site,
)

# What is read by default on a CPU of a model whose unembedding has more values than this; GPT-2's
# has 39 million, that of the largest built-in model half a million.
LARGE_UNEMBEDDING = 8_000_000
MOST_SPREAD = 11


@dataclass(frozen=True)
class Setup:
    """What an analysis works on.

    Attributes:
        loaded: Model and tokenizer.
        anatomy: Anatomy of the model.
        documents: Documents of all domains; their index is their number.
        blocks: Token blocks by split.
        text: Rows of `text` in results.json.
        warnings: Code and message of what a reader must know of the text.
        layers: Layers to read.
        plan: What the run will take.
        parting: What stands between documents, and why.
        scratch: An existing folder for residuals that memory has no room for.
    """

    loaded: Loaded
    anatomy: Anatomy
    documents: Sequence[TokenizedDocument]
    blocks: dict[Split, Blocks]
    text: list[dict[str, Any]]
    warnings: list[dict[str, str]]
    layers: tuple[int, ...]
    plan: plan.Plan
    parting: separator.Choice
    scratch: Path | None = None

    @cached_property
    def domains(self) -> list[str]:
        """Domain of each document number."""
        return [document.domain for document in self.documents]

    @cached_property
    def bytes_per_token(self) -> list[float]:
        """Bytes that a token stands for that can be scored, by document number."""
        return [document.n_bytes / max(document.n_targets, 1) for document in self.documents]

    @property
    def lines(self) -> list[str]:
        """What a plan says of the text: how much of it there is, what parts it, what is wrong."""
        lines = []
        for row in self.text:
            documents, counts = row["documents"], row["tokens"]
            parts = ", ".join(f"{part} {counts[part]:,} in {documents[part]}" for part in counts)
            where = f"Text {row['domain']} ({row['source']})"
            lines.append(f"{where}, tokens in documents: {parts}; {dataset.taken(row)}")
        lines.append(self.parting.check.message)
        return lines + [f"warning: {warning['message']}" for warning in self.warnings]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the model: configuration and weights."""
        return loading.fingerprint(self.loaded)

    def stream(
        self, part: Split, layers: Sequence[int], site: Site, batch_size: int | None = None
    ) -> ResidualStream:
        """Return the residual stream of a split."""
        return stream(
            self.loaded.model,
            self.anatomy,
            self.blocks[part].token_ids,
            layers,
            batch_size=batch_size or self.plan.batch_size,
            site=site,
            store=self.plan.store,
            folder=self.scratch,
        )

    def branches(self) -> BranchEngine:
        """Return what runs branches of the model, as many at once as the plan says.

        It is the same each time, and keeps what it ran until it is told to forget it.
        """
        return self._branches

    @cached_property
    def _branches(self) -> BranchEngine:
        tokens = self.plan.branch_tokens
        return BranchEngine(self.loaded.model, max_tokens_per_forward=tokens, anatomy=self.anatomy)


def prepare(
    loaded: Loaded,
    settings: RunSettings,
    layers: Sequence[int] | Literal["all"] = (),
    sites: Sequence[Site] = ("resid_post",),
    scratch: Path | None = None,
    ranks: Ranks | None = None,
) -> Setup:
    """Read and tokenize the text, find the model's anatomy, plan the run.

    Args:
        loaded: Model and tokenizer.
        settings: Settings of the run.
        layers: Layers to read; `all`, or none, for all.
        sites: Where in a block they are read; what layers there are, the first decides.
        scratch: An existing folder for residuals that memory has no room for.
        ranks: This process among those that share the work: they go by the plan of the first.

    Raises:
        ModelError: If the model is not understood, takes no block this long or has no such site.
        DataError: If the text cannot be used as asked.
        SettingsError: If layers or offsets are out of range.
    """
    anatomy = find_anatomy(loaded.model)
    layers = _layers(layers, sites[0], anatomy.n_layers)
    block = _block(loaded, settings)
    documents, rows, warnings = dataset.read(loaded.tokenizer, settings, block)
    ends = loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id
    own = (token for token in ends if token is not None)
    loading.require_rows(loaded, chain(own, *(document.ids for document in documents)))
    block = shortened(block, documents, loaded.tokenizer)
    parting = separator.choose(loaded, documents, settings, block)
    blocks = blocks_by_split(documents, parting.separator, block, settings.offsets)
    _require_sites(loaded, anatomy, blocks["test"], sites)
    n_blocks = sum(len(part.token_ids) for part in blocks.values())
    size = settings.batch_size
    ranks = ranks or Ranks()
    made = plan.make(
        anatomy, n_blocks, block, layers, settings.offsets,
        batch_size=size, scratch=scratch, n_ranks=ranks.count, n_sites=len(sites),
    )  # fmt: skip
    # A batch of another size would round differently.
    another = plan.room_for_another(loaded.model)
    made = ranks.same(lambda: replace(made, another=another))
    return Setup(loaded, anatomy, documents, blocks, rows, warnings, layers, made, parting, scratch)


def _require_sites(loaded: Loaded, anatomy: Anatomy, test: Blocks, sites: Sequence[Site]) -> None:
    """Raise unless one block can be read at each site, before anything else is measured there."""
    for site in sites:
        if site != "resid_post":
            block, last = test.token_ids[:1], (anatomy.n_layers,)
            next(iter(stream(loaded.model, anatomy, block, last, batch_size=1, site=site)))


def require_analysable(checks: Sequence[Check]) -> list[dict[str, str]]:
    """Return warnings of the checks that failed and do not forbid an analysis.

    Raises:
        ModelError: If a check failed without which no number here would mean anything.
    """
    failed = [check for check in checks if not check.passed]
    fatal = [check.message for check in failed if check.name not in doctor.ADVISORY]
    if fatal:
        raise ModelError("this model cannot be analysed: " + " ".join(fatal))
    return [{"code": f"check-{check.name}", "message": check.message} for check in failed]


def _layers(layers: Sequence[int] | Literal["all"], site: Site, n_layers: int) -> tuple[int, ...]:
    lowest = _lowest(site)
    layers = range(lowest, n_layers + 1) if isinstance(layers, str) or not layers else layers
    outside = [layer for layer in layers if not lowest <= layer <= n_layers]
    if outside:
        raise SettingsError(
            f"--layers must be in {lowest}..{n_layers} for this model at {site}, "
            f"got {', '.join(map(str, outside))}"
        )
    # The last layer is where forgetting is measured from.
    return tuple(sorted({*layers, n_layers}))


def _lowest(site: Site) -> int:
    """Return the first layer of a site: no block is before layer 0."""
    return 0 if site == "resid_post" else 1


def spread_layers(loaded: Loaded, site: Site) -> tuple[int, ...]:
    """Return the layers that are read where none are asked for; empty for all.

    On a CPU, of a model with a large unembedding, those are `MOST_SPREAD`, evenly from the first
    to the last: a probe costs by the size of the unembedding there, and all would take hours.
    """
    anatomy, lowest = find_anatomy(loaded.model), _lowest(site)
    large = anatomy.unembedding.numel() > LARGE_UNEMBEDDING
    step = (anatomy.n_layers - lowest) / (MOST_SPREAD - 1)
    if step <= 1 or not large or loaded.model.device.type != "cpu":
        return ()
    return tuple(lowest + round(step * each) for each in range(MOST_SPREAD))


def _block(loaded: Loaded, settings: RunSettings) -> int:
    most = loading.longest(loaded.model)
    if most is not None and most < settings.least["block"]:
        raise ModelError(
            f"{loaded.name} takes {most} tokens, as its configuration says; a block takes "
            f"{settings.least['block']}: BOS, a position and its target"
        )
    block = settings.block if most is None else min(settings.block, most)
    if settings.offsets > block - 2:
        raise SettingsError(
            f"--offsets must be in 1..{block - 2} for blocks of {block} tokens, which is all "
            f"that this model takes, got {settings.offsets}"
        )
    return block


def with_machine_defaults(settings: AnySettings, loaded: Loaded) -> AnySettings:
    """Return settings with what depends on the machine made plain, so that a run is repeatable."""
    on_cpu = loaded.model.device.type == "cpu"
    n_tokens = settings.max_tokens or (settings.tokens_on_cpu if on_cpu else TOKENS_ELSEWHERE)
    revision = loaded.revision or settings.revision
    n_positions = settings.marginal_positions or (
        MARGINALIZED_ON_CPU if branches_are_slow(loaded) else MARGINALIZED
    )
    changed: dict[str, Any] = {"dtype": loaded.dtype, "marginal_positions": n_positions}
    return replace(settings, max_tokens=n_tokens, revision=revision, **changed)


def branches_are_slow(loaded: Loaded) -> bool:
    """Whether a position takes seconds to marginalize: a model that is not small, on a CPU."""
    return loaded.model.device.type == "cpu" and loaded.n_parameters > SMALL_PARAMETERS


def load_model(settings: RunSettings) -> Loaded:
    """Load the model that settings name.

    Raises:
        ModelError: If there is no such model, or it cannot be loaded.
    """
    return loading.load(
        settings.model,
        revision=settings.revision,
        dtype=settings.dtype,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
        quantization=settings.quantization,
    )

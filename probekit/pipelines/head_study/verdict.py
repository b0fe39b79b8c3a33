"""What a study of heads found, in sentences with intervals."""

import math
from collections.abc import Collection, Iterator, Mapping

from probekit.pipelines.head_study.findings import apart, with_interval
from probekit.pipelines.head_study.score_strategies import BASE, NATIVE, OWN
from probekit.pipelines.head_study.settings import BASELINE, FROZEN
from probekit.pipelines.head_study.standing import Standing
from probekit.readout import LINEAR, UNIGRAM
from probekit.scoring.few_documents import few_documents
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import DocumentSums, Rate, Rates

OFFSET = 2
THE_MODEL = "The finetuned model itself, marginalized,"
PROBED, ON_FINETUNED = "heads-from-probes", "heads-on-finetuned"
# Alike in start and in how rate and length are searched: what differs is whether the model is
# trained too.
PAIRS = ((FROZEN, "joint"), (PROBED, "joint-from-probes"))

JOINTLY = "Joint training, from the same start and with the same search: {difference}."
# What heads gain that start as linear probes: what the others were not trained for.
STARTS = "The same training of heads that start as linear probes, against heads-only: {difference}."
# What a head reads that is not linear at one position.
BEYOND = "What heads that start as linear probes read beyond these: {difference}."
# What finetuning before freezing changes: the control for heads-only.
CONTROL = (
    "The fair control, heads on the finetuned and then frozen model, against heads-only: "
    "{difference}."
)
FED = (
    "The layers that the model brings along, fed the true token between, against the model "
    "marginalized, which is not: {difference}. Not a comparison of equals."
)
SEEDS = "Intervals are over documents and {} training seeds."
ONE_SEED = "Intervals are over documents alone: another training seed may give another order."
NO_ORDER = (
    f"So no order of strategies can be told at t+{OFFSET}. More --epochs or --max-tokens may "
    "tell one."
)

# By what reads a later token in one pass, the linear probe first: how its fit ended at offset 2.
Fitted = Mapping[str, Standing]


def sentences(sums: DocumentSums, fitted: Fitted) -> list[str]:
    """Return the verdict: what is read, who was trained enough, pairs, the cost, the model's own.

    Args:
        sums: The scores.
        fitted: How the linear probe and the strategies that train heads stand, in order.
    """
    domain = sums.groups[0]
    rates = sums.rates(domain, "test", "marginal")
    if rates.shortage:
        return [f"Cannot tell: {rates.shortage}."]
    whole = sums.rates(domain, "test", "all")
    fit = [name for name, standing in fitted.items() if not standing.reason]
    best = _best_heads(fitted)
    none_left = len(fitted) > 1 and not any(name != LINEAR for name in fit)
    pairs = [
        *(text for frozen, joint in PAIRS for text in _paired(rates, fit, joint, frozen, JOINTLY)),
        *_paired(rates, fit, PROBED, FROZEN, STARTS),
        # Of the best heads the first sentence tells it.
        *(() if best == PROBED else _paired(rates, fit, PROBED, LINEAR, BEYOND)),
        *_paired(rates, fit, ON_FINETUNED, FROZEN, CONTROL),
    ]
    seeds = len(sums.table["seed"].unique())
    if seeds == 1:
        pairs = [f"{text.removesuffix('.')} (one training seed)." for text in pairs]
    return [
        *_read(rates, fitted),
        *_left_out(fitted),
        *([NO_ORDER] if none_left else []),
        *pairs,
        *_cost(whole, fitted),
        *_own(whole, {name: fitted[name] for name in fit}),
        *_paired(rates, [NATIVE], NATIVE, BASE, FED),
        *([SEEDS.format(seeds) if seeds > 1 else ONE_SEED] if len(fitted) > 1 else []),
    ]


def warnings(sums: DocumentSums) -> Iterator[dict[str, str]]:
    """Yield code and message of what keeps the verdict from being believed."""
    for domain in sums.groups:
        yield from few_documents(domain, sums.rates(domain, "test", "marginal"))
    rates = sums.rates(sums.groups[0], "test", "all")
    for offset in sorted({offset for _, _, offset in rates.cells}):
        floor = rates.nats(UNIGRAM, None, offset)
        below = [
            name
            for name, _, at in rates.cells
            if at == offset and rates.summary(rates.nats(name, None, at) - floor)[1] > 0
        ]
        if below:
            yield {
                "code": "below-unigram",
                "message": f"At offset {offset} {', '.join(below)} know less than token "
                "frequencies tell: they were trained too little, or at a bad rate. Take more "
                "--epochs or --max-tokens, or another --rate.",
            }


def _read(rates: Rates, fitted: Fitted) -> Iterator[str]:
    """Say what the best heads read, between the linear probe and what the model itself knows."""
    known = rates.summary(_bits(rates, BASELINE))
    readouts = [name for name in fitted if rates.has(name, None, OFFSET)]
    best = _best_heads(fitted)
    if best is None:
        yield (
            f"No strategy that trains heads was asked for. {THE_MODEL} knows "
            f"{with_interval(known, digits=2)} bits of t+{OFFSET} beyond the unigram."
        )
        return
    aside = ", which take part in no order" if fitted[best].reason else ""
    who = f"the best heads by validation, {best}{aside}, read"
    who = f"{_named(best)} reads" if best == LINEAR else who
    read = with_interval(rates.summary(_bits(rates, best)), digits=2)
    level = [name for name in readouts if not _more(rates, BASELINE, name, OFFSET)[1] > 0]
    itself = f"{THE_MODEL[0].lower()}{THE_MODEL[1:]}"
    if best in level:
        told = f"bits beyond the unigram; {itself} knows {known[0]:.2f}"
    else:
        told = f"of the {known[0]:.2f} bits that {itself} knows beyond the unigram"
    yield f"At t+{OFFSET} {who} {read} {told}{_beside_probe(rates, best)}."
    if level:
        steps = (
            f"{_named(name)}, by {with_interval(_more(rates, BASELINE, name, OFFSET))}"
            for name in level
        )
        yield f"{THE_MODEL} is not clear of {'; '.join(steps)} bits at t+{OFFSET}."


def _beside_probe(rates: Rates, best: str) -> str:
    """Say what the linear probe of the layer that heads read has by itself."""
    if best == LINEAR or not rates.has(LINEAR, None, OFFSET):
        return ""
    more = _more(rates, best, LINEAR, OFFSET)
    unclear = ", not clear of zero" if more[1] <= 0 <= more[2] else ""
    alone = float(_bits(rates, LINEAR)[0])
    return (
        f"; the linear probe of the layer that they read has {alone:.2f} alone "
        f"(the heads {with_interval(more, digits=2)} more{unclear})"
    )


def _bits(rates: Rates, name: str) -> Rate:
    """Return the bits beyond the unigram that are known at the offset."""
    nats = (rates.nats(each, None, OFFSET) for each in (UNIGRAM, name))
    return v_information_bits(*nats)


def _named(name: str) -> str:
    return "the linear probe" if name == LINEAR else name


def _best(fitted: Fitted) -> str:
    """Return what validation likes best at the offset; one at least is scored there."""
    nats = {name: each.nats for name, each in fitted.items() if each.nats is not None}
    return min(nats, key=nats.__getitem__)


def _best_heads(fitted: Fitted) -> str | None:
    """Return the heads that validation likes best, of those that take part in an order if any do.

    Without heads it is the linear probe, and None where nothing was fitted.
    """
    scored = {name: each for name, each in fitted.items() if each.nats is not None}
    heads = {name: each for name, each in scored.items() if name != LINEAR}
    fit = {name: each for name, each in heads.items() if not each.reason}
    return _best(fit or heads or scored) if scored else None


def _left_out(fitted: Fitted) -> Iterator[str]:
    """Say which strategies take part in no order, and why."""
    by_reason: dict[str, list[str]] = {}
    for name, standing in fitted.items():
        if standing.reason:
            by_reason.setdefault(standing.reason, []).append(name)
    if by_reason:
        told = "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items())
        yield f"Take part in no order: {told}."


def _paired(
    rates: Rates, fit: Collection[str], name: str, against: str, sentence: str
) -> Iterator[str]:
    """Say by how much two differ at offset 2, if both were scored and trained enough."""
    both = all(rates.has(each, None, OFFSET) for each in (name, against))
    if both and name in fit and against in {BASE, *fit}:
        yield sentence.format(difference=_difference(rates, name, against))


def _more(rates: Rates, name: str, against: str, offset: int) -> tuple[float, float, float]:
    """Return the bits that one reads more than another, with the ends of the interval."""
    return rates.summary(apart(rates, "nats", against, name, offset) / math.log(2))


def _difference(rates: Rates, name: str, against: str) -> str:
    """Say which of two reads more, and by how much."""
    value, low, high = more = _more(rates, name, against, OFFSET)
    word, shown = ("less", (-value, -high, -low)) if value < 0 else ("more", more)
    unclear = ", not clear of zero" if low <= 0 <= high else ""
    amount = with_interval(shown)
    return f"{name} reads {amount} bits {word} than {_named(against)} at t+{OFFSET}{unclear}"


def _cost(rates: Rates, strategies: Collection[str]) -> Iterator[str]:
    """Say what each strategy costs the next token."""
    clear, unclear = [], []
    for name in strategies:
        if rates.has(name, None, 1):
            lost = _more(rates, BASELINE, name, 1)
            if lost[1] <= 0 <= lost[2]:
                unclear.append(name)
            else:
                clear.append(f"{with_interval(lost)} bits with {name}")
    costs = [*clear, *([f"not clear of zero with {', '.join(unclear)}"] if unclear else [])]
    if costs:
        yield f"Cost to the next token, against the finetuned model: {'; '.join(costs)}."


def _own(rates: Rates, fit: Fitted) -> Iterator[str]:
    """Say how heads that came with the model do beside the best that was fitted afterwards."""
    if not rates.has(OWN, None, OFFSET):
        return
    if not any(rates.has(name, None, OFFSET) for name in fit):
        own = with_interval(rates.summary(_bits(rates, OWN)), digits=2)
        yield f"The model's own heads read {own} bits of t+{OFFSET} beyond the unigram."
        return
    best = _best(fit)
    more, difference = _more(rates, OWN, best, OFFSET), _difference(rates, OWN, best)
    word, against = "beat", ""
    if more[1] <= 0:
        word = "are behind" if more[2] < 0 else "are not clear of"
        against = ", against the literature's expectation"
    yield (
        f"The model's own heads, trained with it, {word} the best that was fitted afterwards"
        f"{against}: {difference}."
    )

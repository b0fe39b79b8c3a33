"""What a study of heads found, in sentences with intervals."""

from collections.abc import Collection, Iterator, Mapping

from probekit.pipelines.head_study.findings import apart, with_interval
from probekit.pipelines.head_study.score_strategies import BASE, NATIVE, OWN
from probekit.pipelines.head_study.settings import BASELINE, FROZEN
from probekit.readout import UNIGRAM
from probekit.scoring.rates import DocumentSums, Rates, few_documents

OFFSET = 2
JOINT, PROBED, ON_FINETUNED = "joint", "heads-from-probes", "heads-on-finetuned"

# What heads gain that start as linear probes: what the others were not trained for.
STARTS = (
    "The same training of heads that start as linear probes, against heads-only: "
    "{difference}{unclear}."
)
# What finetuning before freezing changes: the control for heads-only.
CONTROL = (
    "The fair control, heads on the finetuned and then frozen model, against heads-only: "
    "{difference}{unclear}."
)
FED = (
    "The layers that the model brings along, fed the true token between, against the model "
    "marginalized, which is not: {difference}. Not a comparison of equals."
)

# By strategy that trains heads: what it loses at offset 2 on validation text, in nats; None
# where it has no head there. Which is best is chosen by these.
Trained = Mapping[str, float | None]


def sentences(sums: DocumentSums, trained: Trained) -> list[str]:
    """Return the verdict: the order at offset 2, the control, the cost, what came with the model.

    Args:
        sums: The scores.
        trained: The strategies that train heads, in order.
    """
    domain = sums.groups[0]
    rates = sums.rates(domain, "test", "marginal")
    if rates.shortage:
        return [f"Cannot tell: {rates.shortage}."]
    whole = sums.rates(domain, "test", "all")
    return [
        *_order(rates, trained),
        *_paired(rates, PROBED, FROZEN, STARTS),
        *_paired(rates, ON_FINETUNED, FROZEN, CONTROL),
        *_cost(whole, trained),
        *_own(whole, trained),
        *_paired(rates, NATIVE, BASE, FED),
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


def _order(rates: Rates, trained: Trained) -> Iterator[str]:
    """Say whether heads-only < joint < marginalized baseline holds at offset 2."""
    scored = [name for name in trained if rates.has(name, None, OFFSET)]
    if not scored:
        base = rates.summary(rates.nats(BASELINE, None, OFFSET))
        yield (
            f"No strategy that trains heads was asked for. The finetuned model, marginalized, "
            f"loses {with_interval(base)} nats at offset {OFFSET}."
        )
        return
    if FROZEN in scored and JOINT in scored:
        yield _ranked(_less(rates, FROZEN, JOINT), _less(rates, JOINT, BASELINE))
        steps = f"{_step(rates, FROZEN, JOINT)}; {_step(rates, JOINT, BASELINE)}"
        yield f"Paired, at the same positions: {steps}."
    best = _best(trained)
    own, base = (rates.summary(rates.rate("top5", x, None, OFFSET)) for x in (best, BASELINE))
    yield (
        f"The best heads at offset {OFFSET}, by validation, are {best}: top-5 "
        f"{with_interval(own, 100.0, 1)} %, the baseline's {with_interval(base, 100.0, 1)} %; "
        f"{_step(rates, best, BASELINE)}."
    )


def _best(trained: Trained) -> str:
    """Return the strategy that validation likes best at the offset; one at least has a head."""
    nats = {name: value for name, value in trained.items() if value is not None}
    return min(nats, key=nats.__getitem__)


def _ranked(first: bool | None, second: bool | None) -> str:
    """Say whether both steps of the order are clear."""
    if first and second:
        return (
            f"At offset {OFFSET}, from worst to best: heads only, joint, the finetuned model "
            "marginalized."
        )
    unclear = " and ".join(
        f"{pair} is {'not clear' if judged is None else 'the other way round'}"
        for pair, judged in (
            ("heads only worse than joint", first),
            ("joint worse than the baseline", second),
        )
        if judged is not True
    )
    return (
        f"At offset {OFFSET} the paper's order (heads only, joint, the finetuned model "
        f"marginalized, from worst to best) was not found here: {unclear}."
    )


def _less(rates: Rates, worse: str, better: str) -> bool | None:
    """Say whether one is worse than another in cross-entropy; None where that is not clear."""
    _, low, high = rates.summary(apart(rates, "nats", worse, better, OFFSET))
    if low > 0:
        return True
    return False if high < 0 else None


def _step(rates: Rates, name: str, against: str) -> str:
    nats = rates.summary(apart(rates, "nats", name, against, OFFSET))
    top5 = rates.summary(apart(rates, "top5", name, against, OFFSET))
    label = "the baseline" if against == BASELINE else against
    points = with_interval(top5, 100.0, 1)
    return f"{name} minus {label} {with_interval(nats)} nats, top-5 {points} points"


def _paired(rates: Rates, name: str, against: str, sentence: str) -> Iterator[str]:
    """Say by how much two strategies differ at offset 2, if both were scored."""
    if rates.has(name, None, OFFSET) and rates.has(against, None, OFFSET):
        nats = rates.summary(apart(rates, "nats", name, against, OFFSET))
        unclear = ", not clear of zero" if nats[1] <= 0 <= nats[2] else ""
        difference = f"{with_interval(nats)} nats at offset {OFFSET}"
        yield sentence.format(difference=difference, unclear=unclear)


def _cost(rates: Rates, trained: Collection[str]) -> Iterator[str]:
    """Say what each strategy costs the next token."""
    clear, unclear = [], []
    for name in trained:
        if rates.has(name, None, 1):
            nats = rates.summary(apart(rates, "nats", name, BASELINE, 1))
            if nats[1] <= 0 <= nats[2]:
                unclear.append(name)
            else:
                clear.append(f"{with_interval(nats)} nats with {name}")
    costs = [*clear, *([f"not clear of zero with {', '.join(unclear)}"] if unclear else [])]
    if costs:
        yield f"Cost to the next token, against the finetuned model: {'; '.join(costs)}."


def _own(rates: Rates, trained: Trained) -> Iterator[str]:
    """Say how heads that came with the model do beside those fitted afterwards."""
    if not rates.has(OWN, None, OFFSET):
        return
    own = rates.summary(rates.nats(OWN, None, OFFSET))
    if not any(rates.has(name, None, OFFSET) for name in trained):
        yield f"The model's own heads lose {with_interval(own)} nats at offset {OFFSET}."
        return
    best = _best(trained)
    nats = rates.summary(apart(rates, "nats", OWN, best, OFFSET))
    difference = f"{with_interval(nats)} nats ({OWN} minus {best})"
    if nats[2] < 0:
        yield (
            f"The model's own heads, trained with it, beat the best of those fitted afterwards at "
            f"offset {OFFSET}: {difference}."
        )
    else:
        word = "are behind" if nats[1] > 0 else "are not clear of"
        yield (
            f"The model's own heads, trained with it, {word} the best of those fitted afterwards "
            f"at offset {OFFSET}, against the literature's expectation: {difference}."
        )

"""The content of draft.json: drafters, what a pass costs, examples, verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from probekit.checks import Check
from probekit.drafting import cost
from probekit.drafting.cost import Cost
from probekit.drafting.measure import Gain, Measured, Prompt, gain, ratio
from probekit.pipelines.drafting.predict import POSITIONS
from probekit.pipelines.drafting.sentences import sentences
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.pipelines.drafting.trial import PLAIN, Trial
from probekit.progress import Journal
from probekit.runs import metadata
from probekit.runs.setup import Setup
from probekit.scoring.accepted_length import Share, accepted_length
from probekit.scoring.rates import ALL, DocumentSums, Rates

SCHEMA = "probekit.draft/1"
EXAMPLES = 2  # of each text and drafter


@dataclass(frozen=True)
class Tried:
    """What was measured.

    Attributes:
        settings: The settings.
        setup: Model and text.
        trials: What was tried.
        prompts: By domain.
        measured: By domain, what each trial did, by its label.
        held_out: Scores of the readouts on test text, against the model's own continuation.
        own: The same on the texts that were drafted.
        costs: What passes cost.
    """

    settings: DraftSettings
    setup: Setup
    trials: Sequence[Trial]
    prompts: Mapping[str, Sequence[Prompt]]
    measured: Mapping[str, Mapping[str, Measured]]
    held_out: DocumentSums | None
    own: DocumentSums | None
    costs: Sequence[Cost]

    @property
    def domains(self) -> list[str]:
        """The texts, `all` first if there are several."""
        names = list(self.prompts)
        return [ALL, *names] if len(names) > 1 else names

    def inside(self, domain: str) -> list[str]:
        """The texts that a domain is made of."""
        return list(self.prompts) if domain == ALL and ALL not in self.prompts else [domain]


def draft_document(tried: Tried, journal: Journal) -> dict[str, Any]:
    """Return the content of draft.json.

    Args:
        tried: What was measured.
        journal: Which stages took how long.
    """
    setup, settings = tried.setup, tried.settings
    rows, costs = list(drafter_rows(tried)), [asdict(each) for each in tried.costs]
    check = _lossless(tried, rows)
    few = [] if check.passed else [{"code": "check-lossless", "message": check.message}]
    return {
        "schema": SCHEMA,
        "run": metadata.run_row(setup, settings, journal),
        "model": metadata.model_row(setup),
        "text": setup.text,
        "verdict": list(sentences(rows, costs)),
        "drafters": rows,
        "greedy": [_greedy_row(tried, domain) for domain in tried.domains],
        "cost": costs,
        "examples": list(example_rows(tried)),
        "checks": [asdict(check)],
        "warnings": [*few, *setup.warnings],
    }


def _lossless(tried: Tried, rows: Sequence[Mapping[str, Any]]) -> Check:
    """Return the check that every text is greedy decoding's own."""
    first = [row for row in rows if row["domain"] == tried.domains[0]]
    if tried.settings.temperature:
        return Check("lossless", True, 0.0, 0.0, "texts are sampled, not compared")
    differing = sum(row["n_prompts"] - row["equal_texts"] for row in first)
    total = sum(row["n_prompts"] for row in first)
    dtype = tried.setup.loaded.dtype
    way_out = "" if not differing else f"; in {dtype} near ties may fall otherwise: try float32"
    told = f"{differing} of {total} drafted texts differ from greedy decoding's{way_out}"
    return Check("lossless", not differing, float(differing), 0.0, told)


def drafter_rows(tried: Tried) -> Iterator[dict[str, Any]]:
    """Yield `drafters` of draft.json: one row a drafter, shape and domain."""
    for trial in tried.trials:
        for domain in tried.domains:
            yield _drafter_row(tried, trial, domain)


def _drafter_row(tried: Tried, trial: Trial, domain: str) -> dict[str, Any]:
    inside, settings = tried.inside(domain), tried.settings
    prompts = [prompt for name in inside for prompt in tried.prompts[name]]
    drafted, plain = (
        [each for name in inside for each in tried.measured[name][label].drafted]
        for label in (trial.label, PLAIN)
    )
    horizon, limit = len(trial.widths) + 1, settings.new_tokens
    found = gain(drafted, prompts, horizon, limit, settings.seed)
    pairs = zip(drafted, plain, strict=True)
    equal = sum(torch.equal(one.token_ids, other.token_ids) for one, other in pairs)
    return {
        "drafter": trial.candidate.name,
        "layers": list(trial.candidate.layers),
        "horizon": horizon,
        "widths": list(trial.widths),
        "told_newest": bool(trial.candidate.ahead),
        "n_parameters": trial.candidate.n_parameters,
        "domain": domain,
        "n_prompts": len(prompts),
        "n_passes": found.n_passes,
        "n_tokens": found.n_tokens,
        "equal_texts": None if settings.temperature else equal,
        **columns("accepted", found.accepted),
        **columns("tokens_per_forward", found.tokens_per_forward),
        **_foretold(tried.held_out, trial, domain, "predicted"),
        **_foretold(tried.own, trial, domain, "predicted_own"),
        **_speed(tried, trial, inside, found.tokens_per_forward),
        "offsets": list(_offsets(tried, trial, domain, found)),
    }


def _speed(
    tried: Tried, trial: Trial, inside: Sequence[str], per_forward: Share | None
) -> dict[str, float | None]:
    """Return how much faster texts come, and what a pass costs."""
    plain, seconds = (
        np.sum([tried.measured[name][label].seconds for name in inside], axis=0)
        for label in (PLAIN, trial.label)
    )
    speed = ratio(list(plain), list(seconds))
    pass_cost = None if per_forward is None else per_forward.value / speed.value
    return {
        "speed": speed.value,
        "speed_low": speed.low,
        "speed_high": speed.high,
        "pass_tokens": trial.pass_tokens,
        "pass_cost": pass_cost,
        "break_even": None if pass_cost is None else pass_cost - 1,
        "forward_cost": cost.at(tried.costs, trial.pass_tokens),
        "flat_speed": None if per_forward is None else per_forward.value,
    }


def _greedy_row(tried: Tried, domain: str) -> dict[str, Any]:
    found = [tried.measured[name][PLAIN] for name in tried.inside(domain)]
    prompts = [prompt for name in tried.inside(domain) for prompt in tried.prompts[name]]
    texts = [each for one in found for each in one.drafted]
    n_tokens = sum(
        each.token_ids.shape[1] - prompt.token_ids.shape[1]
        for each, prompt in zip(texts, prompts, strict=True)
    )
    seconds = float(np.median(np.sum([one.seconds for one in found], axis=0)))
    return {"domain": domain, "n_tokens": n_tokens, "seconds_per_token": seconds / n_tokens}


def _offsets(tried: Tried, trial: Trial, domain: str, found: Gain) -> Iterator[dict[str, Any]]:
    rates = _rates(tried.held_out, trial, domain)
    for acceptance in found.offsets:
        offset, foretold = acceptance.offset, columns("predicted", None)
        if rates is not None:
            joint = rates.rate("joint", trial.candidate.name, None, offset)
            before = (
                rates.rate("joint", trial.candidate.name, None, offset - 1)
                if offset > 2
                else np.ones_like(joint)
            )
            foretold = rates.columns("predicted", joint / np.where(before > 0, before, np.nan))
        yield {
            "offset": offset,
            **columns("conditional", acceptance.conditional),
            **columns("unconditional", acceptance.unconditional),
            **foretold,
        }


def _rates(sums: DocumentSums | None, trial: Trial, domain: str) -> Rates | None:
    """Return the scores of a chain's readout; None for trees, and for what no readout drafts."""
    if sums is None or trial.candidate.readout is None or not trial.chain:
        return None
    return sums.rates(domain, "test", POSITIONS)


def _foretold(
    sums: DocumentSums | None, trial: Trial, domain: str, name: str
) -> dict[str, float | None]:
    rates = _rates(sums, trial, domain)
    if rates is None:
        return columns(name, None)
    expected = accepted_length(rates, trial.candidate.name, None, len(trial.widths) + 1)
    return rates.columns(name, expected)


def columns(name: str, share: Share | None) -> dict[str, float | None]:
    """Return a share and its interval as columns of a row; nulls where there is none."""
    ends = (None, None, None) if share is None else (share.value, share.low, share.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def example_rows(tried: Tried) -> Iterator[dict[str, Any]]:
    """Yield `examples` of draft.json: texts, each token with whether it was drafted."""
    tokenizer = tried.setup.loaded.tokenizer
    for domain, prompts in tried.prompts.items():
        for trial in tried.trials:
            texts = tried.measured[domain][trial.label].drafted
            for drafted, prompt in list(zip(texts, prompts, strict=True))[:EXAMPLES]:
                ids, start = drafted.token_ids[0].tolist(), prompt.token_ids.shape[1]
                taken = set[int]()
                for step in drafted.steps:
                    taken |= set(range(step.position + 1, step.position + 1 + step.accepted))
                yield {
                    "domain": domain,
                    "drafter": trial.candidate.name,
                    "widths": list(trial.widths),
                    "prompt": str(tokenizer.decode(ids[:start], skip_special_tokens=True)),
                    "tokens": [str(tokenizer.decode([token])) for token in ids[start:]],
                    "accepted": [at in taken for at in range(start, len(ids))],
                }

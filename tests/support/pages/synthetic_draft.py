"""A small measured draft, made up: every part of draft.json, numbers that tell rows apart."""

from typing import Any

from support.pages import synthetic_heads
from support.pages.synthetic_heads import poisoned, rate

DOMAINS = ("all", "prose", "code")
# What drafts, its layers and shape; the last is copied, so nothing foretells it.
TRIED: tuple[tuple[str, list[int], list[int]], ...] = (
    ("linear", [1], [1]),
    ("linear", [1, 2, 2], [1, 1, 1]),
    ("linear", [1, 2, 2], [3, 2, 1]),
    ("skip-bigram", [], [1]),
    ("head:heads-only", [1], [1]),
    ("prompt-lookup", [], [1, 1, 1]),
)


def nothing(name: str) -> dict[str, None]:
    return dict.fromkeys((name, f"{name}_low", f"{name}_high"))


def drafters() -> list[dict[str, Any]]:
    rows = []
    for domain in DOMAINS:
        for place, (drafter, layers, widths) in enumerate(TRIED):
            accepted, foretold = 0.3 + 0.1 * place, place in (0, 1, 3, 4)
            rows.append({
                "drafter": drafter, "layers": layers, "horizon": len(widths) + 1,
                "widths": widths, "told_newest": drafter == "skip-bigram",
                "n_parameters": 1000 * place, "domain": domain, "n_prompts": 16, "n_passes": 321,
                "n_tokens": 765, "equal_texts": 16, **rate("accepted", accepted, 0.05),
                **rate("tokens_per_forward", 1 + accepted, 0.05),
                **(rate("predicted", accepted + 0.03) if foretold else nothing("predicted")),
                **(rate("predicted_own", accepted + 0.02) if foretold else
                   nothing("predicted_own")),
                **rate("speed", 0.9 + 0.05 * place, 0.02), "pass_tokens": 1 + len(widths),
                "pass_cost": 1.37, "break_even": 0.37, "forward_cost": 1.23,
                "flat_speed": 1 + accepted, "offsets": offsets(len(widths), foretold),
            })  # fmt: skip
    return rows


def offsets(n: int, foretold: bool) -> list[dict[str, Any]]:
    return [
        {
            "offset": 2 + at,
            **rate("conditional", 0.4 - 0.1 * at, 0.01),
            **rate("unconditional", 0.3 - 0.1 * at, 0.01),
            **(rate("predicted", 0.41, 0.01) if foretold else nothing("predicted")),
        }
        for at in range(n)
    ]


def document() -> dict[str, Any]:
    study = synthetic_heads.document()
    costs = [{"tokens": n, "seconds": 0.004 * n**0.6, "ratio": n**0.6} for n in (1, 2, 4, 8)]
    return {
        "schema": "probekit.draft/1",
        **{name: study[name] for name in ("run", "model", "text", "warnings")},
        "verdict": ["One token is accepted 31 % of the time.", "Not worth heads here."],
        "drafters": drafters(),
        "greedy": [
            {"domain": domain, "n_tokens": 768, "seconds_per_token": 0.0041} for domain in DOMAINS
        ],
        "cost": costs,
        "examples": [
            {
                "domain": "prose", "drafter": "linear", "widths": [1], "prompt": "Once upon",
                "tokens": [" a", " time", "\n", "there"], "accepted": [False, True, True, False],
            }
        ],
        "checks": [
            {
                "name": "lossless", "passed": True, "measured": 0.0, "allowed": 0.0,
                "message": "0 of 96 drafted texts differ from greedy decoding's",
            }
        ],
    }  # fmt: skip


def hostile() -> dict[str, Any]:
    """Return the draft with markup in front of every text of the run."""
    found: dict[str, Any] = poisoned(document())
    return found

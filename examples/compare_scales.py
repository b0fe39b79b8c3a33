"""Sweep a ladder of models, then read the scores of all of them as one table.

    python examples/compare_scales.py runs/scales

Works offline on the built-in ladder. What is done already is not done again.
"""

import sys
from pathlib import Path

import probekit
from probekit.pipelines.comparison.sweep import ladder

SETTINGS = {"max_tokens": 4_000, "marginal_positions": 100}


def main(output: Path) -> None:
    """Analyze each model of the ladder and show what its best probes know."""
    runs = [
        probekit.analyze(name, output=output / name, say=print, **SETTINGS)
        for name in ladder("tiny")
    ]
    comparison = probekit.compare(runs)
    print("\n".join(comparison.verdict))

    scores = comparison.scores.query(
        "readout == 'linear' and split == 'test' and positions == 'all' and domain == 'all'"
    )
    print("\nTop-1 accuracy of linear probes, by relative depth of the layer:")
    print(scores.pivot_table(index=["run", "depth"], columns="offset", values="top1").round(3))
    print(f"\nComparison: {comparison.write(output / 'compare.html')}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/scales"))

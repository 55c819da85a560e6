"""Medians of interleaved rounds, as a table with ratios."""

import json
import statistics
from pathlib import Path

Times = dict[str, dict[str, list[float]]]
"""By who was measured and what was done: one figure a round."""


def show(times: Times, base: str, unit: str, target: Path | None) -> None:
    """Print a Markdown table: a row a piece of work, a column a peer, the ratio to `base` in brackets."""
    medians = {
        who: {work: statistics.median(runs) for work, runs in row.items()} for who, row in times.items()
    }
    others = [who for who in medians if who != base]
    names = [*others, base] if base in medians else others
    works = list(dict.fromkeys(work for row in medians.values() for work in row))
    print(f"| {unit} (ratio to {base}) | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for work in works:
        cells = []
        for who in names:
            value = medians[who].get(work)
            against = medians.get(base, {}).get(work)
            if value is None:
                cells.append("-")
            elif who == base or not against:
                cells.append(f"{value:.2f}")
            else:
                cells.append(f"{value:.2f} ({value / against:.2f})")
        print(f"| {work} | " + " | ".join(cells) + " |")
    if target is not None:
        target.write_text(json.dumps(medians, indent=1) + "\n")

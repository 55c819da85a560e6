"""The search with coverage: `scripts/fuzz TARGET [seconds] [options of libFuzzer]`."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mstfs"]):
    from fuzz.targets import TARGETS

from fuzz.kept import KEPT

SECONDS = 60
SECONDS_EACH = 20
"""An input that takes longer than this counts as one that never ends."""
MEGABYTES = 2048
FOLDER = Path(__file__).resolve().parents[2] / "build" / "fuzz"


def main(words: list[str]) -> None:
    """Search until the time is over or something is found; what was found is left in build/fuzz."""
    name, *rest = words
    if name not in TARGETS:
        sys.exit(f"fuzz: no target {name}; there are: {' '.join(sorted(TARGETS))}")
    seconds = int(rest.pop(0)) if rest and rest[0].isdigit() else SECONDS
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate([*TARGETS[name].seeds(), *KEPT.get(name, [])]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={SECONDS_EACH}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-artifact_prefix={FOLDER}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, *rest, str(corpus)], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        sys.stdout.write("\n".join(sorted(TARGETS)) + "\n")
    else:
        main(sys.argv[1:])

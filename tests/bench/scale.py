"""What a mount costs as repositories grow: time in wall ms, and resident memory in MB.

The first mount makes the index, and stands against one sha256sum of the same CAR, which the column "file" is;
later ones should take the same time however large the repository is. One edit and its publication should grow
with the logarithm of the number of records.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from memory import resident

from bench.mounts import Peer, clocked, run
from bench.table import Times, show

SIZES = [1_000, 10_000, 100_000, 1_000_000]
EDITS = 5


def measure(car: Path, mountpoint: Path, overlay: Path) -> dict[str, float]:
    """One repository, from its first mount on."""
    own = [sys.executable, "-m", "mstfs", "mount", "-f"]
    read_only = Peer("mstfs", [*own, "--read-only", str(car), "{mnt}"])
    find = ["find", str(mountpoint), "-type", "f"]
    found: dict[str, float] = {}

    def mount_time(peer: Peer) -> float:
        start = time.monotonic()
        with peer.mounted(mountpoint):
            return (time.monotonic() - start) * 1000

    found["mount, first"] = mount_time(read_only)
    found["mount, again"] = min(mount_time(read_only) for _ in range(3))
    for phase in ("first", "after another mount"):
        with read_only.mounted(mountpoint) as mounted:
            daemon = read_only.pid
            if phase == "first":
                found["memory, mounted"] = resident(daemon) / 1e6
            found[f"find, {phase}"] = clocked(find)
            found[f"memory, after find, {phase}"] = resident(daemon) / 1e6
            assert mounted == mountpoint
    writable = Peer("mstfs", [*own, "--overlay", str(overlay), str(car), "{mnt}"])
    with writable.mounted(mountpoint):
        folder = mountpoint / "app.bsky.feed.post"
        name = min(path.name for path in folder.iterdir())
        text = (folder / name).read_text()
        took = []
        for number in range(EDITS):
            start = time.monotonic()
            (folder / name).write_text(text.replace('"text": "', f'"text": "{number} ', 1))
            (mountpoint / ".mstfs/commands/publish").write_text("{}")
            took.append((time.monotonic() - start) * 1000)
        found["one edit and publish"] = sorted(took)[EDITS // 2]
    return found


def main() -> None:
    """Every size, then the table."""
    from mstfs.repo.sample import make_sample

    parser = argparse.ArgumentParser(prog="scripts/bench scale", description=__doc__)
    parser.add_argument("--records", type=int, nargs="*", default=SIZES)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    times: Times = {"mstfs": {}, "file": {}}
    with tempfile.TemporaryDirectory(prefix="mstfs-bench-") as name:
        scratch = Path(name)
        mountpoint = scratch / "mnt"
        mountpoint.mkdir()
        for count in arguments.records:
            car = scratch / f"{count}.car"
            make_sample(car, count, 1)
            run("cat", car)
            times["file"][f"{count:,} records: mount, first"] = [clocked(["sha256sum", str(car)])]
            for work, value in measure(car, mountpoint, scratch / f"{count}.overlay").items():
                times["mstfs"][f"{count:,} records: {work}"] = [value]
            print(f"{count} records", file=sys.stderr, flush=True)
    show(times, "file", "wall ms, or MB", arguments.json)


if __name__ == "__main__":
    main()

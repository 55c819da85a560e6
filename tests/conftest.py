"""Fixtures, options and rules that all tests share.

Terminology
    A mount test works on a real FUSE mount. A boot test boots a whole system in a container.

Tricky bits
    With CI=true and the shared fixtures folder beside the project nothing may be skipped unless it says so
    (`may_skip`): a skip there means that the machine lacks something that the setup should have installed.

Hacking
    Boot tests run with `--boot`, long ones with `--long`; `--no-mount` leaves mount and boot tests out.
    A test that is left out is deselected, which CI accepts; it is not skipped.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from overlays import SCHEMA
from parts_in_c import part_in_c

from mstfs.blocks import car_index
from mstfs.blocks.sqlite import Database

PROJECT = Path(__file__).resolve().parent.parent
SHARED_FIXTURES = PROJECT.parent / "shared" / "fixtures"
NOTHING_MAY_SKIP = os.environ.get("CI") == "true" and SHARED_FIXTURES.is_dir()

# The same examples on every run and machine: a failure is there again when one looks for it.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
# For --long: new examples each time; a failure prints the blob that brings it back.
hypothesis.settings.register_profile("search", deadline=None, print_blob=True, max_examples=1000)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mstfs")
    group.addoption("--boot", action="store_true", help="run the tests that boot a system in a container too")
    group.addoption("--long", action="store_true", help="run the tests that take minutes too")
    group.addoption("--no-mount", action="store_true", help="leave out every test that mounts")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("search" if config.getoption("--long") else "same")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what runs in the background like that, and every program of a test would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def why_no_mount() -> str | None:
    """What this machine lacks for a FUSE mount, as a sentence, or None."""
    if not Path("/dev/fuse").exists():
        return "needs /dev/fuse (the fuse kernel module)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs the right to open /dev/fuse"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "needs root or fusermount3 (the fuse3 package)"
    if importlib.util.find_spec("pyfuse3") is None:
        return "needs pyfuse3 (the mount extra)"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = set()
    if not config.getoption("--boot"):
        left_out.add("boot")
    if not config.getoption("--long"):
        left_out.add("long")
    if config.getoption("--no-mount"):
        left_out.update(("boot", "mount"))
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        (dropped if left_out.intersection(mark.name for mark in item.iter_markers()) else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
    lack = why_no_mount()
    if lack is not None:
        for item in items:
            if item.get_closest_marker("mount") is not None:
                item.add_marker(pytest.mark.skip(reason=lack))


def _skip_to_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = (
        f"skipped, which CI accepts with the marker may_skip only: {reason.removeprefix('Skipped: ')}"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if NOTHING_MAY_SKIP and skipped and item.get_closest_marker("may_skip") is None:
        _skip_to_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    # A module that skips itself as a whole (importorskip) is seen here and nowhere else.
    if NOTHING_MAY_SKIP and report.skipped:
        _skip_to_failure(report)
    return report


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """The folder of real files that is handed around beside the project, not in it."""
    if not SHARED_FIXTURES.is_dir():
        pytest.skip("needs the shared fixtures folder beside the project")
    return SHARED_FIXTURES


def mounts_below(folder: Path, table: str) -> list[Path]:
    """Mount points of mstfs below `folder` in the text of /proc/self/mounts, innermost first."""
    found = []
    for line in table.splitlines():
        _source, point, kind, _rest = line.split(" ", 3)
        if kind != "fuse.mstfs":
            continue
        # The kernel writes blanks and backslashes in octal.
        path = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point))
        if path.is_relative_to(folder):
            found.append(path)
    return sorted(found, reverse=True)


@pytest.fixture(scope="session", autouse=True)
def no_mount_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails the session when a test leaves a mount behind, and takes the mount down."""
    yield
    left = mounts_below(tmp_path_factory.getbasetemp().resolve(), Path("/proc/self/mounts").read_text())
    for point in left:
        subprocess.run(["fusermount3", "-u", "-z", str(point)], check=False, timeout=10)
    if left:
        pytest.fail("these mounts were left behind: " + ", ".join(map(str, left)), pytrace=False)


@pytest.fixture(scope="module", params=["in C", "in Python"])
def index_in_c_and_in_python(request: pytest.FixtureRequest) -> Iterator[None]:
    """Blocks are found and read by the part in C, and then without it."""
    with part_in_c(request.param, car_index, "fast_index"):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the `database` is; until that is asked for, nothing."""
    return tmp_path / "overlay"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """An open overlay with the tables of `overlays.SCHEMA`."""
    with Database.open(path, schema=SCHEMA) as opened:
        yield opened

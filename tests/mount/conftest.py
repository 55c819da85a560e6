"""The sample that all mount tests work on."""

import shutil
from pathlib import Path

import pytest

from mount import faulty_io
from mount.faulty_io import Rules
from mount.mounting import Mount
from mstfs.repo.sample import make_sample

RECORDS = 120
SEED = 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder mounts."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("mount")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CAR with 120 records. Tests mount copies of it."""
    path = tmp_path_factory.mktemp("sample") / "sample.car"
    make_sample(path, RECORDS, SEED)
    return path


@pytest.fixture
def car(sample: Path, tmp_path: Path) -> Path:
    """A copy of the sample in a folder of its own."""
    return Path(shutil.copy2(sample, tmp_path / "repo.car"))


@pytest.fixture(scope="module")
def module_car(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample for a mount that the tests of a module share."""
    return Path(shutil.copy2(sample, tmp_path_factory.mktemp("shared") / "repo.car"))


@pytest.fixture(scope="session")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records, fails or ends what a daemon does to its files."""
    return faulty_io.build(tmp_path_factory.mktemp("library"))


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """For the mount `faulty`; no call fails yet."""
    return Rules(tmp_path / "rules")


@pytest.fixture
def faulty(car: Path, faulty_library: Path, rules: Rules) -> Mount:
    """A mount whose calls can be made to fail."""
    environment = faulty_io.environment(faulty_library, car, rules=rules.path)
    return Mount(car, "--no-publish-on-unmount", environment=environment)

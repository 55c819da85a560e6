"""The check of what a root reaches finds what the check of the whole file finds, but for the file itself."""

from pathlib import Path

import pytest
from crooked import Repo, did_key
from defects import KINDS

from mstfs.blocks.car import CarFile
from mstfs.errors import Refused
from mstfs.repo.verify import Verification
from mstfs.repo.verify_head import HeadVerification

OF_THE_FILE = {"section-cid", "section-codec", "car-torn", "car-padding", "car-header", "car-root-count"}
UNREACHED = {"unlinked", "second-copy", "first-copy"}
"""Damage to blocks that nothing needs: a root is none the worse for it."""


@pytest.mark.parametrize("name", [name for name in KINDS if name != "no-root"])
def test_both_verifiers_find_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "repo.car"
    path.write_bytes(KINDS[name].car())
    with CarFile.open(path, use_sidecar=False) as car:
        whole = {(found.rule, found.cid, found.key) for found in Verification(car, key=did_key())}
        reached = {
            (found.rule, found.cid, found.key) for found in HeadVerification(car, car.roots[0], did_key())
        }
    differing = {rule for rule, _, _ in whole ^ reached}
    if name.startswith(tuple(UNREACHED)):
        assert reached == set()
    else:
        assert differing <= OF_THE_FILE


def test_a_sound_root(tmp_path: Path) -> None:
    path = tmp_path / "repo.car"
    path.write_bytes(Repo().car())
    with CarFile.open(path, use_sidecar=False) as car:
        verification = HeadVerification(car, car.roots[0], did_key())
        with pytest.raises(Refused):
            verification.report()
        assert list(verification) == []
        whole = Verification(car, key=did_key())
        assert list(whole) == []
        assert verification.report() == whole.report()

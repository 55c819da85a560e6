"""The demo: on a real mount, and what it does when a step goes wrong."""

import json
import os
from pathlib import Path

import pytest
from cli_archives import call, complaint

from mstfs.cli.demo import Demo


@pytest.mark.mount
def test_the_demo_works_and_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "kept"
    assert call("demo", "--keep", folder) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for command in ("mstfs mount ", "ls mnt", "sed -i ", "mstfs sync ", "mstfs verify ", "mstfs umount mnt"):
        assert f"\n$ {command}" in out
    assert "Every step gave what it should" in out
    assert {"sample.car", "sample.car.mstfs", "new.car", "proof.car"} <= set(os.listdir(folder))
    assert not os.path.ismount(folder / "mnt")
    assert list((folder / "mnt").iterdir()) == []


@pytest.mark.mount
def test_the_demo_as_json_names_both_roots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("demo", "--json", "--keep", tmp_path) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["old_root"] != told["new_root"]
    assert all(step["exit_code"] == 0 for step in told["steps"])
    log = next(step["output"] for step in told["steps"] if step["command"].startswith("mstfs log"))
    assert told["new_root"] in log


@pytest.mark.mount
def test_the_demo_cleans_up_after_a_step_that_goes_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: Demo) -> tuple[str, str]:
        assert os.path.ismount(self.mountpoint)
        self.step("echo something else", lambda out: out == "what it should be")
        raise AssertionError("the step is wrong, and must not pass")

    monkeypatch.setattr(Demo, "_edit", spoil)
    assert call("demo", "--json", "--keep", tmp_path) == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["ok"] is False
    assert "`echo something else` did not print what it should" in told["error"]
    assert told["error"] in err
    assert not os.path.ismount(tmp_path / "mnt")


@pytest.mark.mount
def test_the_demo_cleans_up_when_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Demo) -> tuple[str, str]:
        assert os.path.ismount(self.mountpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(Demo, "_edit", interrupt)
    assert call("demo", "--keep", tmp_path) == 130
    assert not os.path.ismount(tmp_path / "mnt")


def test_a_step_that_fails_ends_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Demo, "_mount_and_read", lambda self: self.step("exit 3", code=None))
    assert call("demo", "--keep", tmp_path) == 3
    assert "`exit 3` ended with exit code 3" in capsys.readouterr().err


def test_the_demo_wants_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").touch()
    assert "is not empty" in complaint(capsys, "demo", "--keep", tmp_path)

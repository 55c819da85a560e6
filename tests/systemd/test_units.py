"""The units, the helper of mount(8) and the installer, without a running systemd."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mstfs.cli.main import build_parser

SYSTEMD = Path(__file__).resolve().parent.parent.parent / "systemd"
SYSTEM_UNIT = "lib/systemd/system/mstfs@.service"
USER_UNIT = "lib/systemd/user/mstfs@.service"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A stand-in for mstfs, in a folder with an awkward name, that prints one argument a line."""
    path = tmp_path / "a folder, 100% & more" / "mstfs"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def installed(tmp_path: Path, echo: Path) -> Path:
    """The folder that an installation with the stand-in went to."""
    top = tmp_path / "top"
    done = run(SYSTEMD / "install", "--prefix", "/usr", "--mstfs", echo, DESTDIR=str(top))
    assert done.returncode == 0, done.stderr
    return top


@needs_systemd
@pytest.mark.parametrize(("unit", "manager"), [(SYSTEM_UNIT, "--system"), (USER_UNIT, "--user")])
def test_systemd_has_nothing_to_say_about_an_installed_unit(
    installed: Path, tmp_path: Path, unit: str, manager: str
) -> None:
    # An unknown key does not change the exit code, it is only told.
    done = run("systemd-analyze", manager, "verify", installed / "usr" / unit, XDG_RUNTIME_DIR=str(tmp_path))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_the_system_unit_is_fenced_in() -> None:
    unit = SYSTEMD / "mstfs@.service"
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=50", unit)
    assert done.returncode == 0, done.stdout
    # These would keep the mount from everybody outside the service.
    names = "ProtectSystem|ProtectHome|Private(Tmp|Devices|Mounts)|ReadOnlyPaths|ProtectKernel|ProtectProc"
    assert not re.search(rf"^({names})", unit.read_text(), re.MULTILINE)


def test_an_installation_is_removed_without_a_trace(installed: Path, echo: Path) -> None:
    files = sorted(path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file())
    assert files == [
        "sbin/mount.mstfs",
        f"usr/{SYSTEM_UNIT}",
        f"usr/{USER_UNIT}",
        "usr/share/doc/mstfs/example.conf",
    ]
    assert os.access(installed / "sbin/mount.mstfs", os.X_OK)
    done = run(SYSTEMD / "install", "--prefix", "/usr", "--uninstall", DESTDIR=str(installed))
    assert done.returncode == 0, done.stderr
    assert [path for path in installed.rglob("*") if path.is_file()] == []


def test_an_installer_without_a_usable_mstfs_refuses(tmp_path: Path) -> None:
    done = run(SYSTEMD / "install", "--mstfs", "relative/mstfs", DESTDIR=str(tmp_path))
    assert done.returncode == 1
    assert "absolute path" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("rw", []),
        ("ro,allow_other", ["--read-only", "-o", "allow_other"]),
        ("overlay=/a b/c.mstfs,publish_every=60", ["--overlay", "/a b/c.mstfs", "--publish-every", "60"]),
        (
            'overlay="/a,b",signing_key="/k,l",ro',
            ["--overlay", "/a,b", "--signing-key", "/k,l", "--read-only"],
        ),
        ("defaults,nofail,_netdev,noauto,user=alice,x-systemd.automount,comment=a=b,relatime", []),
        ("noexec,max_read=65536,*", ["-o", "noexec,max_read=65536,*"]),
        ("root=bafy,format=cbor", ["-o", "root=bafy,format=cbor"]),
        (",,ro,", ["--read-only"]),
    ],
)
def test_mount_options_become_arguments(installed: Path, options: str, arguments: list[str]) -> None:
    done = run(installed / "sbin/mount.mstfs", "/my file.car", "/mnt", "-n", "-o", options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["mount", *arguments, "--", "/my file.car", "/mnt"]


def test_a_fake_mount_runs_nothing_and_tells_what_it_would_run(installed: Path) -> None:
    done = run(
        installed / "sbin/mount.mstfs", "file.car", "/mnt", "-f", "-v", "-s", "-o", "ro", "-t", "mstfs"
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.rstrip().endswith("mstfs mount --read-only -- file.car /mnt")


@pytest.mark.parametrize(
    "arguments", [["-o", "remount,ro"], ["-N", "1"], ["-o", "setuid=no-such-user"], ["-z"]]
)
def test_what_cannot_be_done_is_refused(installed: Path, arguments: list[str]) -> None:
    done = run(installed / "sbin/mount.mstfs", "file.car", "/mnt", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr


def test_units_helper_and_example_use_arguments_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        SYSTEMD / name for name in ("mstfs@.service", "user/mstfs@.service", "mount.mstfs", "example.conf")
    ]
    text = "\n".join(line for file in files for line in file.read_text().splitlines())
    used = set(re.findall(r"(?<=[\s=])--[a-z][a-z-]+", text)) - {
        "--init-groups",
        "--regid",
        "--reset-env",
        "--reuid",
    }
    used -= {"--user", "--now"}
    with pytest.raises(SystemExit):
        build_parser().parse_args(["mount", "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert {"--foreground", "--overlay", "--publish-every"} <= used <= known

"""What is mounted, copied: by the command, and by reading the files one by one."""

import os
from pathlib import Path

from mount.mounting import Mount, files_below, mstfs, write_record
from mstfs.archive import Archive
from mstfs.codec import cid as cids


def test_a_mount_is_converted_with_what_is_staged(car: Path, tmp_path: Path) -> None:
    out, files = tmp_path / "out.car", tmp_path / "files.car"
    with Mount(car) as mount:
        write_record(mount / "org.example.note/from-here.json")
        os.unlink(mount / "app.bsky.actor.profile/self.json")
        shown = files_below(mount.path)
        mstfs("convert", mount.path, out, "--to", "hamt3", folder=tmp_path)
        mstfs("convert", mount.path, files, "--to", "unixfs", "--escape", folder=tmp_path)
        # What the mount shows as files makes the tree that the mount publishes.
        made = mstfs("import", mount.path, tmp_path / "again.car", "--to", "mst", folder=tmp_path)
        mount.sync()
        with Archive.open(car) as archive:
            assert cids.to_text(archive.head.data) in made.stdout
            records = dict(archive)
    with Archive.open(out) as archive:
        assert dict(archive) == records
    with Archive.open(files) as archive:
        assert {key.encode(): text for key, text in archive.items()} == {
            os.fsencode(name): text for name, text in shown.items()
        }


def test_a_hamt_shows_the_files_that_it_was_made_of(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name, data in {"zarr.json": b"{}", "a/c/0/0": bytes(range(256)) * 5000, "a/empty": b""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for to in ("hamt3", "hamt2", "hashmap", "unixfs"):
        out = tmp_path / f"{to}.car"
        mstfs("import", folder, out, "--to", to, folder=tmp_path)
        with Mount(out, "--read-only") as mount:
            assert files_below(mount.path) == files_below(folder)

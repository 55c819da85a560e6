"""What an archive may hold after a crash: the same state, as a model has it and as a mount shows it."""

from typing import NamedTuple

from mount.mounting import Mount, files_below

Texts = dict[str, bytes]


class Shown(NamedTuple):
    """What a mount shows: its files, `.mstfs/diff`, paths of drafts, the newest root by path, its number."""

    files: Texts
    staged: list[str]
    drafts: list[str]
    published: Texts
    sequence: int

    def difference(self, other: "Shown") -> str:
        """What is not the same in another one, in one line a thing."""
        lines = [
            f"{name}: {mine} here, {others} there"
            for name, mine, others in zip(self._fields, self, other, strict=True)
            if mine != others and not isinstance(mine, dict)
        ]
        for mine, others in ((self.files, other.files), (self.published, other.published)):
            for path in sorted(mine.keys() | others.keys()):
                here, there = mine.get(path), others.get(path)
                if here != there:
                    lines.append(f"{path}: {str(here)[:90]} here, {str(there)[:90]} there")
        return "\n".join(lines)


class State(NamedTuple):
    """`records` by key, as edits and tree say together; `stored` files (drafts and scratch) by path; the
    records of the newest root, and its number in the history.
    """

    records: Texts
    stored: Texts
    published: Texts
    sequence: int

    def shown(self) -> Shown:
        """What a mount must show."""
        old, new = self.published, self.records
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        return Shown(
            as_files(new) | self.stored,
            [f"{'A' if key not in old else 'M' if key in new else 'D'} {key}" for key in changed],
            self.drafts(),
            as_files(old),
            self.sequence,
        )

    def drafts(self) -> list[str]:
        """Paths of the drafts, sorted."""
        return sorted(path for path in self.stored if path.endswith(".json"))

    def write(self, key: str, text: bytes) -> "State":
        """After a record was written."""
        return self._replace(records={**self.records, key: text}, stored=without(self.stored, f"{key}.json"))

    def store(self, path: str, data: bytes) -> "State":
        """After a draft or scratch was written."""
        return self._replace(stored={**self.stored, path: data})

    def remove(self, path: str) -> "State":
        """After a name was removed, from every layer."""
        records = (
            without(self.records, path.removesuffix(".json")) if path.endswith(".json") else self.records
        )
        return self._replace(records=records, stored=without(self.stored, path))

    def revert(self) -> "State":
        """After all edits and drafts were dropped."""
        return self._replace(records=self.published, stored=without(self.stored, *self.drafts()))

    def publish(self, records: Texts | None = None) -> "State":
        """After what is staged, or what was staged once (`records`), was published."""
        records = self.records if records is None else records
        return self._replace(published=records, sequence=self.sequence + (records != self.published))

    def checkout(self, records: Texts) -> "State":
        """After an older root was made the head again, with nothing staged."""
        return self._replace(records=records, published=records, sequence=self.sequence + 1)


def without(texts: Texts, *names: str) -> Texts:
    """A copy that lacks these names."""
    return {name: text for name, text in texts.items() if name not in names}


def as_files(records: Texts) -> Texts:
    """Records by path."""
    return {f"{key}.json": text for key, text in records.items()}


def root_of(mount: Mount, sequence: int) -> Texts:
    """The files of a root of the history."""
    return files_below(mount / f".mstfs/history/{sequence}")


def shown_by(mount: Mount) -> Shown:
    """What a mount shows now."""
    status = mount.status()
    drafts = sorted(draft["path"] for draft in status["drafts"])
    sequence = status["sequence"]
    return Shown(files_below(mount.path), mount.staged(), drafts, root_of(mount, sequence), sequence)


def beginning(mount: Mount) -> State:
    """The state of an archive on which nothing is staged, as its mount shows it."""
    shown = shown_by(mount)
    assert not shown.staged
    assert shown.files == shown.published
    records = {path.removesuffix(".json"): text for path, text in shown.files.items()}
    return State(records, {}, records, shown.sequence)

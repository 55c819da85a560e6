"""Made-up repositories: realistic, signed, of any size, and the same for the same seed.

Demonstrations, tests and measurements need archives that nobody's account stands behind. A sample has the
collections and record shapes of a lively account, and a collection of notes whose record keys try out
whatever the syntax allows. Records, tree and commit are made with the same code as every other
repository. The signing key follows from the seed, so it is no secret: never use it for anything else.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, Literal

from mstfs.blocks.car_writer import replacing, write_car
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.cid import DAG_CBOR, RAW, Link
from mstfs.errors import Refused
from mstfs.repo import commit as commits
from mstfs.repo import signing, tid
from mstfs.tree.interface import Edit
from mstfs.tree.mst.tree import MstTree

Order = Literal["stream", "pds", "shuffled"]
"""Block orders: as the specification wants exports (commit, then each node before what it links), by
descending CID as the reference PDS sends a repository that came in at once, or any."""

ODD_RECORD_KEYS = (
    "self", "...", ".hidden", "a.b-c", "pre:fix", "x_y~z", "-", "_", "~", ":", "0", "A", "a", "note.json",
    "con", "CamelCase", "camelcase", "-rf", "end.", "a" * 255, "b" * 256, "Long.Key:~_-" * 42 + "12345678",
)  # fmt: skip
"""Record keys that the syntax allows and that a file system may stumble over."""

_WORDS = """
morning light over the harbour again and nobody awake to see it except two gulls arguing about a chip
finally fixed my sourdough starter thanks to everyone who wrote anyone else seeing slow timelines today
train delayed so I am reading on the platform and this book gets better every chapter new release is out
please test it hello Grüße aus Köln ça va très bien mañana será otro día доброе утро друзья καλημέρα
おはようございます 今日はいい天気 안녕하세요 🌊 🚲 ☕ 🧵 🪴 🎉 👩\u200d🚀 #photography @friend.example.net lol
https://example.org/read?id=42&lang=en
""".split()  # noqa: SIM905

_START = datetime(2023, 4, 1, 8, 0, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True)
class SampleInfo:
    """What was made. `root` is the CID of the commit, `data` of the tree; `size` counts bytes of the CAR."""

    did: str
    did_key: str
    root: bytes
    data: bytes
    rev: str
    records: int
    size: int


def make_sample(
    target: Path | str | BinaryIO,
    records: int,
    seed: int,
    *,
    order: Order = "stream",
    edits: int = 0,
) -> SampleInfo:
    """Write the CAR of a made-up repository to a path (replaced atomically) or an open binary file.

    With `edits` the same repository is written as it is some time later: `edits` records more, half as
    many rewritten, and half as many gone. Refused if a number is negative; OSError if it cannot be written.
    """
    if records < 0 or edits < 0:
        raise Refused("a sample cannot have a negative number of records or edits")
    account = _Account(seed)
    blocks: dict[bytes, bytes] = {}
    keys: dict[bytes, bytes] = {}
    account.fill(records, keys, blocks)
    if edits:
        account.edit(edits, keys, blocks)
    nodes = MemoryBlocks()
    tree = MstTree(nodes)
    empty, empty_block = tree.empty()
    nodes.put(empty, empty_block)
    applied = tree.apply(empty, [Edit(key, keys[key]) for key in sorted(keys)])
    nodes.put_many(applied.nodes.items())
    signer = signing_key(seed)
    rev = account.tick()
    root, block = commits.make(account.did, applied.root, rev, signer)
    ordered = _ordered(order, seed, (root, block), tree.stream(applied.root), blocks)
    with ExitStack() as stack:
        file = stack.enter_context(replacing(Path(target))) if isinstance(target, str | Path) else target
        size = write_car(file, [root], ordered)
    return SampleInfo(account.did, signer.did_key, root, applied.root, rev, len(keys), size)


def signing_key(seed: int) -> signing.SigningKey:
    """The key (k256) that signs the samples of a seed."""
    return signing.signing_key("k256", _secret(seed))


def signing_key_pem(seed: int) -> bytes:
    """The same key as a PEM file (PKCS #8, not encrypted)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.derive_private_key(int.from_bytes(_secret(seed), "big"), ec.SECP256K1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _secret(seed: int) -> bytes:
    # The order of the group is so near to 2**256 that any digest is a number below it.
    return sha256(f"signing key of the made-up account {seed}".encode()).digest()


def _ordered(
    order: Order,
    seed: int,
    commit: tuple[bytes, bytes],
    stream: Iterator[tuple[bytes, bytes | None]],
    records: dict[bytes, bytes],
) -> Iterator[tuple[bytes, bytes]]:
    """All blocks, each once. `stream` gives nodes with their blocks and records without."""
    if order == "stream":
        yield commit
        written: set[bytes] = set()
        for cid, node in stream:
            if node is not None:
                yield cid, node
            elif cid not in written:
                written.add(cid)
                yield cid, records[cid]
        return
    blocks = dict([commit])
    for cid, node in stream:
        blocks[cid] = records[cid] if node is None else node
    by_text = sorted(blocks, key=cids.to_text, reverse=True)
    if order == "shuffled":
        Random(f"order of the blocks of {seed}").shuffle(by_text)
    elif order != "pds":
        raise Refused(f"no block order is called {order!r}")
    for cid in by_text:
        yield cid, blocks[cid]


class _Account:
    """Writes records as time goes by. Everything comes out of one random generator."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"made-up account {seed}")
        self.did = self.stranger()
        self.friends = [self.stranger() for _ in range(500)]
        self.now = _START + timedelta(seconds=self.random.randrange(10_000_000))
        self.clock = self.random.randrange(1024)
        self.notes = 0
        self.rev = ""
        makers: list[tuple[int, Callable[[str], tuple[str, dict[str, Any]]]]] = [
            (48, self.like), (27, self.post), (12, self.follow), (8, self.repost), (5, self.note),
        ]  # fmt: skip
        self.makers = [maker for weight, maker in makers for _ in range(weight)]

    def fill(self, count: int, keys: dict[bytes, bytes], blocks: dict[bytes, bytes]) -> None:
        """Write records until there are `count` more keys."""
        wanted = len(keys) + count
        profile = b"app.bsky.actor.profile/self"
        if count and profile not in keys:
            self.put(profile, self.profile(), keys, blocks)
        while len(keys) < wanted:
            moment = self.tick()
            key, record = self.random.choice(self.makers)(moment)
            self.put(key.encode(), record, keys, blocks)

    def edit(self, count: int, keys: dict[bytes, bytes], blocks: dict[bytes, bytes]) -> None:
        """Rewrite and delete `count` // 2 records each, then write `count` new ones."""
        chosen = self.random.sample(sorted(keys), min(len(keys), count // 2 * 2))
        for index, key in enumerate(chosen):
            if index % 2:
                del keys[key]
            else:
                self.tick()
                collection = key.split(b"/")[0].decode()
                self.put(
                    key, {"$type": collection, "text": self.text(), "editedAt": self.time()}, keys, blocks
                )
        self.fill(count, keys, blocks)

    def put(
        self, key: bytes, record: dict[str, Any], keys: dict[bytes, bytes], blocks: dict[bytes, bytes]
    ) -> None:
        block = dag_cbor.encode(record)
        cid = cids.for_block(block)
        keys[key] = cid
        blocks[cid] = block

    # --- small parts --------------------------------------------------------------------------

    def tick(self) -> str:
        """Some time passes; the TID of the new moment."""
        self.now += timedelta(milliseconds=1 + int(self.random.expovariate(1 / 240_000)))
        self.rev = tid.encode((self.now - _EPOCH) // timedelta(microseconds=1), self.clock)
        return self.rev

    def time(self) -> str:
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def stranger(self) -> str:
        return "did:plc:" + "".join(self.random.choices(_BASE32, k=24))

    def text(self, most: int = 40) -> str:
        count = min(most, 1 + int(self.random.expovariate(1 / 14)))
        return " ".join(self.random.choices(_WORDS, k=count))

    def link(self, codec: int) -> Link:
        return Link(bytes((1, codec, 0x12, 0x20)) + self.random.randbytes(32))

    def reference(self) -> dict[str, Any]:
        """A strong reference to somebody's post of the last days."""
        back = timedelta(seconds=self.random.randrange(1, 500_000))
        when = tid.encode(
            (self.now - back - _EPOCH) // timedelta(microseconds=1), self.random.randrange(1024)
        )
        uri = f"at://{self.random.choice(self.friends)}/app.bsky.feed.post/{when}"
        return {"cid": cids.to_text(self.link(DAG_CBOR).cid), "uri": uri}

    def image(self) -> dict[str, Any]:
        size = self.random.randrange(9_000, 950_000)
        return {"$type": "blob", "ref": self.link(RAW), "mimeType": "image/jpeg", "size": size}

    # --- records ------------------------------------------------------------------------------

    def profile(self) -> dict[str, Any]:
        return {
            "$type": "app.bsky.actor.profile",
            "avatar": self.image(),
            "createdAt": self.time(),
            "description": self.text(),
            "displayName": "Nobody in Particular",
        }

    def about(self, collection: str, moment: str, subject: object) -> tuple[str, dict[str, Any]]:
        record = {"$type": collection, "subject": subject, "createdAt": self.time()}
        return f"{collection}/{moment}", record

    def like(self, moment: str) -> tuple[str, dict[str, Any]]:
        return self.about("app.bsky.feed.like", moment, self.reference())

    def repost(self, moment: str) -> tuple[str, dict[str, Any]]:
        return self.about("app.bsky.feed.repost", moment, self.reference())

    def follow(self, moment: str) -> tuple[str, dict[str, Any]]:
        return self.about("app.bsky.graph.follow", moment, self.stranger())

    def post(self, moment: str) -> tuple[str, dict[str, Any]]:
        chance = self.random.random
        record: dict[str, Any] = {
            "$type": "app.bsky.feed.post",
            "text": self.text(),
            "langs": [self.random.choice(("en", "en", "en", "de", "fr", "ja", "ko", "ru"))],
            "createdAt": self.time(),
        }
        if chance() < 0.4:
            parent = self.reference()
            record["reply"] = {"root": self.reference() if chance() < 0.5 else parent, "parent": parent}
        if chance() < 0.15:
            shape = {"width": 1600, "height": 1200}
            images = [
                {"alt": self.text(12), "image": self.image(), "aspectRatio": shape}
                for _ in range(self.random.randrange(1, 5))
            ]
            record["embed"] = {"$type": "app.bsky.embed.images", "images": images}
        elif chance() < 0.1:
            record["embed"] = {"$type": "app.bsky.embed.record", "record": self.reference()}
        if chance() < 0.1:
            feature = {"$type": "app.bsky.richtext.facet#mention", "did": self.random.choice(self.friends)}
            end = len(record["text"].encode())
            record["facets"] = [{"index": {"byteStart": 0, "byteEnd": end}, "features": [feature]}]
        return f"app.bsky.feed.post/{moment}", record

    def note(self, moment: str) -> tuple[str, dict[str, Any]]:
        """A record that tries the whole data model, under a record key that tries the syntax."""
        number = self.notes
        self.notes += 1
        name = ODD_RECORD_KEYS[number] if number < len(ODD_RECORD_KEYS) else f"note-{number}"
        return f"org.example.note/{name}", {
            "$type": "org.example.note",
            "text": self.text(),
            "written": moment,
            "number": self.random.randrange(-(1 << 63), 1 << 63),
            "pinned": self.random.random() < 0.5,
            "draft": None,
            "bytes": self.random.randbytes(self.random.randrange(48)),
            "link": self.link(RAW),
            "list": [[], {}, [number, "", False]],
        }

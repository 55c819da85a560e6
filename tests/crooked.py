"""A builder of atproto repositories that can be told to misbehave.

Nothing of mstfs is used here: the CBOR emitter can emit wrong bytes, the tree builder can bend any node,
and the blocks are hashed and the commit is signed after the damage is done, so that no digest and no
signature gives a defect away.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

K256_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SECRET = 0x5EED_0F_DEFEC7
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
REV = "3lcq5mkzpdc2k"


# --- a CBOR emitter that obeys ----------------------------------------------------------------


class Raw(bytes):
    """Bytes that are emitted as they are."""


class Link(bytes):
    """A CID that is emitted as tag 42."""


class Pairs(list[tuple[Any, Any]]):
    """A map whose pairs are emitted in the order given, whatever that is."""


def head(major: int, n: int, width: int | None = None) -> bytes:
    """The head of an item, as short as can be, or of `width` bytes behind the first."""
    if width is None:
        width = 0 if n < 24 else 1 if n < 1 << 8 else 2 if n < 1 << 16 else 4 if n < 1 << 32 else 8
    if not width:
        return bytes((major << 5 | n,))
    info = {1: 24, 2: 25, 4: 26, 8: 27}[width]
    return bytes((major << 5 | info,)) + n.to_bytes(width, "big")


def emit(value: Any) -> bytes:
    """DAG-CBOR of the value; dicts are sorted, `Pairs` are not."""
    match value:
        case Raw():
            return bytes(value)
        case Link():
            return b"\xd8\x2a" + emit(b"\0" + bytes(value))
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case Pairs():
            return head(5, len(value)) + b"".join(emit(key) + emit(item) for key, item in value)
        case list():
            return head(4, len(value)) + b"".join(map(emit, value))
        case dict():
            return emit(
                Pairs(sorted(value.items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode())))
            )
    raise TypeError(type(value))


def cid_of(block: bytes, codec: int = 0x71) -> bytes:
    return bytes((1, codec, 0x12, 0x20)) + hashlib.sha256(block).digest()


def cid_sha512(block: bytes) -> bytes:
    return b"\x01\x71\x13\x40" + hashlib.sha512(block).digest()


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes((n,))


# --- signatures -------------------------------------------------------------------------------


def sign(message: bytes, secret: int = SECRET) -> bytes:
    """64 bytes r || s with a low s, k256 over sha-256."""
    key = ec.derive_private_key(secret, ec.SECP256K1())
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + min(s, K256_ORDER - s).to_bytes(32, "big")


def did_key(secret: int = SECRET) -> str:
    """The public half of a k256 secret as `did:key:z...`."""
    point = ec.derive_private_key(secret, ec.SECP256K1()).public_key().public_numbers()
    number = int.from_bytes(b"\xe7\x01" + bytes((2 + point.y % 2,)) + point.x.to_bytes(32, "big"), "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + text
    return "did:key:z" + text


# --- a tree that can be bent ------------------------------------------------------------------


def layer_of(key: bytes) -> int:
    return (256 - int.from_bytes(hashlib.sha256(key).digest(), "big").bit_length()) // 2


def keys_like(form: str, layer: int) -> Iterator[bytes]:
    """Keys of one layer: `form` with a number put in, ascending."""
    for number in range(1_000_000):
        key = form.format(number).encode()
        if layer_of(key) == layer:
            yield key


def key_between(low: bytes, high: bytes, layer: int) -> bytes:
    """Some valid key of the layer strictly between two keys."""
    for number in range(1_000_000):
        key = low + b"%06d" % number
        if low < key < high and layer_of(key) == layer:
            return key
    raise AssertionError("no such key")


Change = Callable[[dict[str, Any]], Any]


@dataclass
class Row:
    """One entry. `change` is given the finished fields k, p, t, v and returns what is emitted instead."""

    key: bytes
    value: bytes
    right: "Node | None" = None
    share: int | None = None
    change: Change | None = None


@dataclass
class Node:
    """One node. `change` is given the finished fields e, l and returns what is emitted instead."""

    layer: int
    left: "Node | None" = None
    rows: list[Row] = field(default_factory=list)
    change: Change | None = None
    name: Callable[[bytes], bytes] = cid_of
    hidden: bool = False

    def children(self) -> "list[Node]":
        return [child for child in (self.left, *(row.right for row in self.rows)) if child is not None]

    def everywhere(self) -> "list[Node]":
        """This node and all below it, pre-order."""
        return [self, *(node for child in self.children() for node in child.everywhere())]


def grow(items: list[tuple[bytes, bytes]], layer: int) -> Node | None:
    """The canonical tree of sorted items whose layers are at most `layer`."""
    if not items:
        return None
    node = Node(layer)
    run: list[tuple[bytes, bytes]] = []

    def close() -> None:
        child = grow(run, layer - 1)
        if node.rows:
            node.rows[-1].right = child
        else:
            node.left = child
        run.clear()

    for key, value in items:
        if layer_of(key) == layer:
            close()
            node.rows.append(Row(key, value))
        else:
            run.append((key, value))
    close()
    return node


def shared(a: bytes, b: bytes) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count


def store(node: Node, blocks: dict[bytes, bytes]) -> bytes:
    """Emit a tree bottom-up into `blocks`; the CID of its topmost node."""

    def link(child: Node | None) -> Link | None:
        return None if child is None else Link(store(child, blocks))

    fields: dict[str, Any] = {"l": link(node.left), "e": []}
    previous = b""
    for row in node.rows:
        share = shared(previous, row.key) if row.share is None else row.share
        entry: dict[str, Any] = {"k": row.key[share:], "p": share, "t": link(row.right), "v": Link(row.value)}
        fields["e"].append(row.change(entry) if row.change else entry)
        previous = row.key
    changed = node.change(fields) if node.change else fields
    block = emit(changed)
    name = node.name(block)
    if not node.hidden:
        blocks[name] = block
    return name


# --- a repository that can be bent ------------------------------------------------------------


def sound_records() -> dict[bytes, dict[str, Any]]:
    """180 records; their tree has layers 0 to 3 and nodes without entries in the middle."""
    records: dict[bytes, dict[str, Any]] = {
        b"app.bsky.actor.profile/self": {
            "$type": "app.bsky.actor.profile",
            "displayName": "Zoë",
            "avatar": {
                "$type": "blob",
                "ref": Link(cid_of(b"a picture", 0x55)),
                "mimeType": "image/png",
                "size": 12_345,
            },
        }
    }
    for number in range(100):
        key = b"app.bsky.feed.post/3lb%s2" % hashlib.sha256(b"%d" % number).hexdigest()[:9].encode()
        text = f"post {number} ✨"
        records[key.translate(bytes.maketrans(b"0189", b"wxyz"))] = {
            "$type": "app.bsky.feed.post",
            "text": text,
        }
    for number in range(79):
        key = b"com.example.note/n%03d" % number
        records[key] = {
            "$type": "com.example.note",
            "n": -number,
            "raw": b"\xfb\0",
            "link": Link(cid_of(b"")),
        }
    return records


class Section(NamedTuple):
    """One section of the CAR. `data` need not match the CID."""

    cid: bytes
    data: bytes


class Repo:
    """A sound repository, until someone changes one of its attributes."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.records: dict[bytes, Any] = dict(sound_records())
        self.names: dict[bytes, Callable[[bytes], bytes]] = {}
        self.commit: dict[str, Any] = {"did": DID, "version": 3, "rev": REV, "prev": None}
        self.commit_emit: Callable[[dict[str, Any]], bytes] = emit
        self.data_link: Callable[[bytes], Any] = Link
        self.signature: Callable[[bytes], Any] | None = sign
        self.roots: Callable[[bytes], list[bytes]] = lambda root: [root]
        self.header: Callable[[list[bytes]], Any] = lambda roots: {
            "roots": list(map(Link, roots)),
            "version": 1,
        }
        self.sections: Callable[[list[Section]], list[Section]] = lambda sections: sections
        self.file: Callable[[bytes], bytes] = lambda data: data
        self.bare = False
        self._tree: Node | None = None

    @property
    def tree(self) -> Node:
        """The tree over the records as they are at the first use of this property."""
        if self._tree is None:
            items = []
            for key in sorted(self.records):
                block = self.records[key] if isinstance(self.records[key], Raw) else emit(self.records[key])
                cid = self.names.get(key, cid_of)(block)
                self.blocks[cid] = bytes(block)
                items.append((key, cid))
            self._tree = grow(items, max((layer_of(key) for key in self.records), default=0)) or Node(0)
        return self._tree

    @tree.setter
    def tree(self, node: Node) -> None:
        self._tree = node

    def leaf(self) -> Node:
        """A node of layer 0 with three entries or more."""
        return next(node for node in self.tree.everywhere() if node.layer == 0 and len(node.rows) > 2)

    def first_key(self) -> bytes:
        """The key of a note, in the middle of the tree's order."""
        return b"com.example.note/n000"

    def build(self) -> tuple[bytes, list[Section]]:
        """Root and sections: the commit (if any), then the blocks as they were made."""
        data = store(self.tree, self.blocks)
        if self.bare:
            return data, [Section(*item) for item in self.blocks.items()]
        commit = dict(self.commit)
        commit.setdefault("data", self.data_link(data))
        if self.signature is not None:
            commit["sig"] = self.signature(emit(commit))
        block = self.commit_emit(commit)
        root = cid_of(block)
        return root, [Section(root, block), *(Section(*item) for item in self.blocks.items())]

    def car(self) -> bytes:
        root, sections = self.build()
        header = emit(self.header(self.roots(root)))
        out = [varint(len(header)), header]
        for section in self.sections(sections):
            out += [varint(len(section.cid) + len(section.data)), section.cid, section.data]
        return self.file(b"".join(out))

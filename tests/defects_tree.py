"""Defects of the archive and of the tree in it."""

import struct
from collections.abc import Callable
from typing import Any

from crooked import (
    Link,
    Node,
    Pairs,
    Raw,
    Repo,
    Row,
    Section,
    cid_of,
    cid_sha512,
    emit,
    grow,
    head,
    key_between,
    keys_like,
    varint,
)
from defect_kinds import add, kind

# --- the archive ------------------------------------------------------------------------------


@kind("car-torn")
def torn_in_block(repo: Repo) -> None:
    repo.sections = lambda sections: [*sections, Section(cid_of(b"x" * 100), b"x" * 100)]
    repo.file = lambda data: data[:-1]


@kind("car-torn")
def torn_in_cid(repo: Repo) -> None:
    repo.sections = lambda sections: [*sections, Section(cid_of(b"x" * 100), b"x" * 100)]
    repo.file = lambda data: data[:-120]


@kind("car-torn")
def torn_in_length(repo: Repo) -> None:
    repo.file = lambda data: data + b"\x80"


@kind("car-torn")
def length_beyond_limits(repo: Repo) -> None:
    repo.file = lambda data: data + varint(1 << 40) + cid_of(b"") + bytes(100)


@kind("car-torn")
def length_not_minimal(repo: Repo) -> None:
    repo.file = lambda data: data + b"\xa5\x80\x00" + cid_of(b"x") + b"x"


@kind("section-cid")
def section_shorter_than_its_cid(repo: Repo) -> None:
    repo.file = lambda data: data + varint(20) + cid_of(b"x")[:20] + varint(37) + cid_of(b"x") + b"x"


@kind("section-cid")
def section_with_no_cid(repo: Repo) -> None:
    repo.file = lambda data: data + varint(60) + b"\x09" * 60


@kind("car-padding")
def padded(repo: Repo) -> None:
    repo.file = lambda data: data + bytes(64)


@kind("car-root-count")
def two_roots(repo: Repo) -> None:
    repo.roots = lambda root: [root, root]


@kind("car-root-count")
def no_root(repo: Repo) -> None:
    repo.roots = lambda root: []


@kind("missing-block")
def root_missing(repo: Repo) -> None:
    repo.roots = lambda root: [cid_of(b"somewhere else")]


@kind("missing-block")
def commit_missing(repo: Repo) -> None:
    repo.sections = lambda sections: sections[1:]


@kind("root-kind")
def root_is_a_record(repo: Repo) -> None:
    repo.sections = lambda sections: [
        *sections,
        Section(cid_of(emit({"$type": "a.b.c"})), emit({"$type": "a.b.c"})),
    ]
    repo.roots = lambda root: [cid_of(emit({"$type": "a.b.c"}))]


@kind("car-header")
def header_fields_out_of_order(repo: Repo) -> None:
    repo.header = lambda roots: Pairs([("version", 1), ("roots", list(map(Link, roots)))])


@kind("car-header")
def header_head_long(repo: Repo) -> None:
    repo.header = lambda roots: {"roots": list(map(Link, roots)), "version": Raw(b"\x18\x01")}


def flipped(section: Section) -> Section:
    return Section(section.cid, section.data[:-1] + bytes((section.data[-1] ^ 1,)))


def replace(wanted: Callable[[Section], bool], change: Callable[[Section], list[Section]]) -> Any:
    """Changes the last section that is wanted."""

    def run(sections: list[Section]) -> list[Section]:
        at = max(index for index, section in enumerate(sections) if wanted(section))
        return [*sections[:at], *change(sections[at]), *sections[at + 1 :]]

    return run


def is_note(section: Section) -> bool:
    return b"com.example.note" in section.data and section.data[:3] != b"\xa2\x61e"


def is_node(section: Section) -> bool:
    return section.data[:3] == b"\xa2\x61e"


@kind("block-hash")
def record_does_not_match(repo: Repo) -> None:
    repo.sections = replace(is_note, lambda section: [flipped(section)])


@kind("block-hash")
def node_does_not_match(repo: Repo) -> None:
    repo.sections = replace(is_node, lambda section: [flipped(section)])


@kind("block-hash")
def commit_does_not_match(repo: Repo) -> None:
    repo.sections = lambda sections: [flipped(sections[0]), *sections[1:]]


@kind("block-hash")
def unlinked_block_does_not_match(repo: Repo) -> None:
    repo.sections = lambda sections: [*sections, Section(cid_of(b"one"), b"two")]


@kind("block-hash")
def second_copy_does_not_match(repo: Repo) -> None:
    repo.sections = replace(is_note, lambda section: [section, flipped(section)])


@kind("block-hash")
def first_copy_does_not_match(repo: Repo) -> None:
    repo.sections = replace(is_note, lambda section: [flipped(section), section])


@kind("block-hash-unknown")
def unlinked_block_with_sha1(repo: Repo) -> None:
    repo.sections = lambda sections: [*sections, Section(b"\x01\x55\x11\x14" + bytes(20), b"two")]


@kind("block-hash-unknown")
def unlinked_block_with_short_digest(repo: Repo) -> None:
    repo.sections = lambda sections: [*sections, Section(b"\x01\x55\x12\x08" + cid_of(b"two")[4:12], b"two")]


@kind("section-codec")
def record_under_another_codec(repo: Repo) -> None:
    repo.sections = replace(is_note, lambda section: [Section(cid_of(section.data, 0x55), section.data)])


@kind("missing-block")
def record_missing(repo: Repo) -> None:
    repo.sections = replace(is_note, lambda section: [])


@kind("missing-block")
def node_missing(repo: Repo) -> None:
    repo.leaf().hidden = True


# --- nodes: CBOR ------------------------------------------------------------------------------


def bend(rule: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[str], None]:
    """A node whose fields are emitted in another way."""

    def plant(repo: Repo) -> None:
        repo.leaf().change = change

    return lambda name: add(name, rule, plant)


def bend_row(rule: str, change: Callable[[dict[str, Any]], Any], row: int = 1) -> Callable[[str], None]:
    """An entry (not the first, unless told) whose fields are emitted in another way."""

    def plant(repo: Repo) -> None:
        repo.leaf().rows[row].change = change

    return lambda name: add(name, rule, plant)


bend("cbor-map-order", lambda f: Pairs([("l", f["l"]), ("e", f["e"])]))("node_fields_out_of_order")
bend("cbor-duplicate-key", lambda f: Pairs([("e", f["e"]), ("l", f["l"]), ("l", f["l"])]))("node_field_twice")
bend("cbor-trailing", lambda f: Raw(emit(f) + b"\xf6"))("node_with_trailing_byte")
bend("cbor-indefinite", lambda f: {**f, "e": Raw(b"\x9f" + emit(f["e"])[1:] + b"\xff")})(
    "node_array_indefinite"
)
bend("cbor-indefinite", lambda f: Raw(b"\xbf" + emit(f)[1:] + b"\xff"))("node_map_indefinite")
bend("cbor-not-minimal", lambda f: {**f, "e": Raw(head(4, len(f["e"]), 2) + emit(f["e"])[1:])})(
    "node_array_head_long"
)
bend("cbor-simple", lambda f: {**f, "l": Raw(b"\xf7")})("node_left_undefined")
bend("cbor-map-key", lambda f: Pairs([(1, None), ("e", f["e"]), ("l", f["l"])]))("node_key_is_a_number")
bend("cbor-tag", lambda f: Raw(b"\xd9\xd9\xf7" + emit(f)))("node_self_described")
bend("cbor-truncated", lambda f: Raw(emit(f)[:-1]))("node_cut_short")

bend_row("cbor-not-minimal", lambda f: {**f, "p": Raw(head(0, f["p"], 2))})("prefix_spelled_long")
bend_row("cbor-not-minimal", lambda f: {**f, "k": Raw(head(2, len(f["k"]), 4) + f["k"])})("suffix_head_long")
bend_row("cbor-not-minimal", lambda f: {**f, "v": Raw(b"\xd9\x00\x2a" + emit(f["v"])[2:])})("link_tag_long")
bend_row("cbor-not-minimal", lambda f: {**f, "v": Raw(b"\xd8\x2a\x59\x00\x25" + emit(f["v"])[4:])})(
    "link_head_long"
)
bend_row("cbor-map-order", lambda f: Pairs([(name, f[name]) for name in "pktv"]))("entry_fields_out_of_order")
bend_row("cbor-link", lambda f: {**f, "v": Raw(b"\xd8\x2a" + emit(bytes(f["v"])))})("link_without_zero_byte")
bend_row("cbor-link", lambda f: {**f, "v": Raw(emit(f["v"]).replace(b"\x58\x25", b"\x58\x26") + b"!")})(
    "link_with_junk"
)
bend_row("cbor-link", lambda f: {**f, "v": Raw(b"\xd8\x2a" + emit("bafy"))})("link_as_text")
bend_row("cbor-float-width", lambda f: {**f, "p": Raw(b"\xf9" + struct.pack(">e", f["p"]))})(
    "prefix_half_float"
)


bend("node-size", lambda f: Raw(emit(f) + bytes(8 << 20)))("node_of_eight_megabytes")


# --- nodes: fields ----------------------------------------------------------------------------

bend("node-type", lambda f: [f["e"], f["l"]])("node_is_a_list")
bend("node-fields", lambda f: {**f, "x": None})("node_with_another_field")
bend("node-fields", lambda f: {"e": f["e"]})("node_without_left")
bend("node-field-type", lambda f: {**f, "l": False})("node_left_false")
bend("node-field-type", lambda f: {**f, "l": cid_of(b"left")})("node_left_as_bytes")
bend("node-field-type", lambda f: {**f, "e": {"0": f["e"][0]}})("node_entries_as_map")
bend_row("entry-type", lambda f: [f["p"], f["k"], f["v"], f["t"]])("entry_is_a_list")
bend_row("entry-fields", lambda f: {**f, "x": 1})("entry_with_another_field")
bend_row("entry-fields", lambda f: {name: f[name] for name in "kpv"})("entry_without_right")
bend_row("entry-fields", lambda f: {name: f[name] for name in "ptv"})("entry_without_suffix")
bend_row("entry-field-type", lambda f: {**f, "k": f["k"].decode()})("suffix_as_text")
bend_row("entry-field-type", lambda f: {**f, "p": None})("prefix_null")
bend_row("entry-field-type", lambda f: {**f, "p": float(f["p"])})("prefix_float")
bend_row("entry-field-type", lambda f: {**f, "v": None})("value_null")
bend_row("entry-field-type", lambda f: {**f, "v": bytes(f["v"])})("value_as_bytes")
bend_row("entry-field-type", lambda f: {**f, "t": bytes(f["v"])})("right_as_bytes")
bend_row("entry-field-type", lambda f: {**f, "t": ""})("right_empty_text")
bend_row("prefix-bool", lambda f: {**f, "p": False}, 0)("prefix_false")
bend_row("prefix-negative", lambda f: {**f, "p": -1})("prefix_negative")
bend_row("prefix-negative", lambda f: {**f, "p": f["p"] - 400})("prefix_negative_from_the_end")
bend_row("prefix-too-long", lambda f: {**f, "p": 4000})("prefix_too_long")
bend_row("prefix-too-long", lambda f: {**f, "p": (1 << 64) - 1})("prefix_immense")
bend_row("prefix-first", lambda f: {**f, "p": 3}, 0)("prefix_of_first_entry")


@kind("prefix-bool")
def prefix_true(repo: Repo) -> None:
    row = repo.leaf().rows[1]
    row.share = 1
    row.change = lambda fields: {**fields, "p": True}


@kind("prefix-not-maximal")
def prefix_shorter_than_it_could_be(repo: Repo) -> None:
    repo.leaf().rows[1].share = 4


@kind("prefix-not-maximal")
def prefix_zero(repo: Repo) -> None:
    repo.leaf().rows[2].share = 0


# --- trees ------------------------------------------------------------------------------------


@kind("key-order")
def keys_swapped(repo: Repo) -> None:
    rows = repo.leaf().rows
    rows[0], rows[1] = rows[1], rows[0]


@kind("key-duplicate")
def key_twice_in_a_node(repo: Repo) -> None:
    rows = repo.leaf().rows
    rows.insert(1, Row(rows[0].key, rows[2].value))


def with_left_leaf(repo: Repo) -> tuple[Row, Node]:
    """An entry of layer 1 and the leaf to its right."""
    for node in repo.tree.everywhere():
        for row in node.rows:
            if node.layer == 1 and row.right is not None and row.right.rows:
                return row, row.right
    raise AssertionError("no such node")


@kind("key-range")
def key_below_its_parents_range(repo: Repo) -> None:
    row, leaf = with_left_leaf(repo)
    leaf.rows.insert(0, Row(key_between(row.key[:-3], row.key, 0), leaf.rows[0].value))


@kind("key-range")
def key_above_its_parents_range(repo: Repo) -> None:
    _, leaf = with_left_leaf(repo)
    key = next(keys_like("zone.example.note/{}", 0))
    leaf.rows.append(Row(key, leaf.rows[0].value))


@kind("key-range")
def children_swapped(repo: Repo) -> None:
    node = next(node for node in repo.tree.everywhere() if node.layer == 1 and len(node.children()) > 1)
    rows = [row for row in node.rows if row.right is not None]
    if node.left is not None:
        node.left, rows[0].right = rows[0].right, node.left
    else:
        rows[0].right, rows[1].right = rows[1].right, rows[0].right


@kind("key-duplicate")
def key_again_in_a_child(repo: Repo) -> None:
    node = next(node for node in repo.tree.everywhere() if node.layer == 1 and node.rows)
    row = node.rows[0]
    # The key has layer 1, so a child that repeats it breaks the rule of layers as well.
    row.right = Node(0, rows=[Row(row.key, row.value), *(row.right.rows if row.right else [])])


@kind("key-layer")
def key_in_too_low_a_node(repo: Repo) -> None:
    rows = repo.leaf().rows
    rows.insert(1, Row(key_between(rows[0].key, rows[1].key, 1), rows[0].value))


@kind("key-layer")
def key_in_too_high_a_node(repo: Repo) -> None:
    node = next(node for node in repo.tree.everywhere() if node.layer == 1 and node.rows)
    row = node.rows[-1]
    last = row.right.rows[-1].key if row.right and row.right.rows else row.key
    node.rows.append(Row(key_between(last, row.key + b"~", 0), row.value))


@kind("key-layer")
def root_with_a_low_key(repo: Repo) -> None:
    first = repo.tree.everywhere()[-1]
    repo.tree.rows.append(Row(next(keys_like("zone.example.note/{}", 0)), first.rows[0].value))


@kind("child-layer")
def link_that_skips_a_layer(repo: Repo) -> None:
    # The two highest layers differ by one, and the lower one is taken away by a link past it.
    low = sorted(keys_like_many("net.example.low/{}", 0, 5))
    high = next(keys_like("net.example.zz/{}", 2))
    value = repo.tree.everywhere()[0].rows[0].value
    leaf = grow([(key, value) for key in low], 0)
    repo.tree = Node(2, left=leaf, rows=[Row(high, value)])


@kind("child-layer")
def child_of_its_parents_layer(repo: Repo) -> None:
    value = repo.tree.rows[0].value
    keys = keys_like_many("net.example.low/{}", 0, 5)
    repo.tree = Node(0, rows=[Row(keys[0], value, Node(0, rows=[Row(key, value) for key in keys[1:]]))])


def keys_like_many(form: str, layer: int, count: int) -> list[bytes]:
    found = keys_like(form, layer)
    return sorted(next(found) for _ in range(count))


@kind("empty-leaf")
def leaf_without_entries(repo: Repo) -> None:
    node = next(node for node in repo.tree.everywhere() if node.layer == 1 and node.rows)
    row = (
        next(row for row in node.rows if row.right is None)
        if any(r.right is None for r in node.rows)
        else None
    )
    if row is None:
        node.rows[-1].right = Node(0)
    else:
        row.right = Node(0)


@kind("empty-leaf")
def empty_node_in_the_middle(repo: Repo) -> None:
    value = repo.tree.rows[0].value
    high = next(keys_like("net.example.zz/{}", 2))
    repo.tree = Node(2, left=Node(1), rows=[Row(high, value)])


@kind("empty-leaf")
def empty_nodes_down_to_the_leaf(repo: Repo) -> None:
    value = repo.tree.rows[0].value
    high = next(keys_like("net.example.zz/{}", 2))
    repo.tree = Node(2, left=Node(1, left=Node(0)), rows=[Row(high, value)])


@kind("bare-root")
def root_is_only_a_pointer(repo: Repo) -> None:
    repo.tree = Node(repo.tree.layer + 1, left=repo.tree)


@kind("bare-root")
def root_is_a_pointer_to_a_pointer(repo: Repo) -> None:
    repo.tree = Node(repo.tree.layer + 2, left=Node(repo.tree.layer + 1, left=repo.tree))


@kind("tree-height")
def tower_of_pointers(repo: Repo) -> None:
    for _ in range(300):
        repo.tree = Node(repo.tree.layer + 1, left=repo.tree)


@kind("shared-node")
def subtree_linked_twice(repo: Repo) -> None:
    node = next(node for node in repo.tree.everywhere() if node.layer == 1 and len(node.rows) > 1)
    node.rows[0].right = node.rows[1].right = Node(
        0, rows=[Row(key_after(node.rows[0].key), node.rows[0].value)]
    )


def key_after(key: bytes) -> bytes:
    return key_between(key, key + b"~", 0)


@kind("node-link-kind")
def node_link_with_raw_codec(repo: Repo) -> None:
    repo.leaf().name = lambda block: cid_of(block, 0x55)


@kind("node-link-kind")
def node_link_with_sha512(repo: Repo) -> None:
    repo.leaf().name = cid_sha512


@kind("node-link-kind")
def node_link_version_0(repo: Repo) -> None:
    repo.leaf().name = lambda block: cid_of(block)[2:]


@kind("node-link-kind")
def node_link_identity(repo: Repo) -> None:
    node = next(node for node in repo.tree.everywhere() if node.layer == 1 and node.rows)
    key = key_between(node.rows[0].key, node.rows[0].key + b"~", 0)
    value = node.rows[0].value
    node.rows[0].right = Node(
        0, rows=[Row(key, value)], name=lambda block: b"\x01\x71\x00" + varint(len(block)) + block
    )


@kind("value-link-kind")
def record_link_with_raw_codec(repo: Repo) -> None:
    repo.names[repo.first_key()] = lambda block: cid_of(block, 0x55)


@kind("value-link-kind")
def record_link_with_sha512(repo: Repo) -> None:
    repo.names[repo.first_key()] = cid_sha512


@kind("value-link-kind")
def record_link_version_0(repo: Repo) -> None:
    repo.names[repo.first_key()] = lambda block: cid_of(block)[2:]

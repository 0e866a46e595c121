"""Writes tests/fuzz/refused/: small GGUF files that must be refused, each with its reason.

A name is `header-STATUS-what.gguf`: the header alone gives that status of core/base/status.h.
Run `python3 tests/fuzz/make_refused.py` after a change here; the files are kept in the
repository and replayed by tests/native/test_gguf.c. Nothing but Python's own library is needed.
"""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).parent / "refused"
U8, U32, BOOL, STRING, ARRAY, U64 = 0, 4, 7, 8, 9, 10
F32, Q4_0 = 0, 2


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return u64(len(data)) + data


def key(name, value_type, value):
    return string(name) + u32(value_type) + value


def array(item_type, n_items, items=b""):
    return u32(item_type) + u64(n_items) + items


def tensor(name="a.weight", dims=(32, 2), element_type=F32, offset=0, n_dims=None):
    count = len(dims) if n_dims is None else n_dims
    return (string(name) + u32(count) + b"".join(u64(dim) for dim in dims)
            + u32(element_type) + u64(offset))


def header(keys=(), tensors=(), version=3, n_keys=None, n_tensors=None, magic=b"GGUF"):
    return (magic + u32(version)
            + u64(len(tensors) if n_tensors is None else n_tensors)
            + u64(len(keys) if n_keys is None else n_keys)
            + b"".join(keys) + b"".join(tensors))


def alignment(value):
    return header([key("general.alignment", U32, u32(value))])


NAME = key("general.name", STRING, string("small"))
BIG = 1 << 63

FILES = {
    "NOT_GGUF-zip": header(magic=b"PK\3\4"),
    "NOT_GGUF-older-format": header(magic=b"ggjt"),
    "NOT_GGUF-two-bytes": b"GU",
    "UNSUPPORTED_VERSION-1": header(version=1),
    "UNSUPPORTED_VERSION-4": header(version=4),
    "UNSUPPORTED_VERSION-big-endian": header(version=3 << 24),
    "TRUNCATED-empty": b"",
    "TRUNCATED-magic-only": b"GGUF",
    "TRUNCATED-before-counts": header()[:20],
    "TRUNCATED-no-entries": header(n_keys=3, n_tensors=2),
    "TRUNCATED-in-key-name": header([NAME])[:36],
    "TRUNCATED-in-string": header([NAME])[:-1],
    "TRUNCATED-in-array": header([key("tokens", ARRAY, array(U32, 100, u32(7) * 99))]),
    "TRUNCATED-in-string-array": header([key("tokens", ARRAY, array(STRING, 3, string("a") * 2))]),
    "TRUNCATED-in-dims": header([NAME], [tensor()])[:-16],
    "TRUNCATED-in-offset": header([NAME], [tensor()])[:-1],
    "CORRUPT-keys-too-many": header(n_keys=65537),
    "CORRUPT-keys-2-to-64": header(n_keys=(1 << 64) - 1),
    "CORRUPT-tensors-too-many": header(n_tensors=BIG),
    "CORRUPT-key-name-empty": header([key("", U32, u32(1)) + b" " * 64]),
    "CORRUPT-key-name-long": header([key("k" * 129, U32, u32(1))]),
    "CORRUPT-key-name-beyond": header([u64(BIG) + b"k" * 64]),
    "CORRUPT-key-twice": header([NAME, key("b", U8, b"\1"), NAME]),
    "CORRUPT-value-type": header([key("k", 13, u64(1))]),
    "CORRUPT-value-type-large": header([key("k", 0xFFFFFFFF, u64(1))]),
    "CORRUPT-item-type": header([key("k", ARRAY, array(13, 1, u64(1)))]),
    "CORRUPT-items-overflow": header([key("k", ARRAY, array(U64, (1 << 61) + 1, u64(1)))]),
    "CORRUPT-items-beyond": header([key("k", ARRAY, array(U8, (1 << 28) + 1, u64(1)))]),
    "CORRUPT-string-beyond": header([key("k", STRING, u64(BIG) + b"text")]),
    "CORRUPT-string-2-to-64": header([key("k", STRING, u64((1 << 64) - 1) + b"text")]),
    "CORRUPT-strings-too-many": header([key("k", ARRAY, array(STRING, 1 << 40, string("a")))]),
    "CORRUPT-string-in-array": header([key("k", ARRAY, array(STRING, 2, u64(BIG) + string("a")))]),
    "CORRUPT-boolean": header([key("k", BOOL, b"\2")]),
    "CORRUPT-boolean-in-array": header([key("k", ARRAY, array(BOOL, 3, b"\0\1\xff"))]),
    "CORRUPT-alignment-zero": alignment(0),
    "CORRUPT-alignment-4": alignment(4),
    "CORRUPT-alignment-48": alignment(48),
    "CORRUPT-alignment-8192": alignment(8192),
    "CORRUPT-alignment-string": header([key("general.alignment", STRING, string("32"))]),
    "CORRUPT-tensor-name-empty": header([], [tensor(name="")]) + b" ",
    "CORRUPT-tensor-name-long": header([], [tensor(name="t" * 129)]),
    "CORRUPT-tensor-twice": header([], [tensor(), tensor(offset=256)]),
    "CORRUPT-dims-none": header([], [tensor(dims=())]) + b" " * 8,
    "CORRUPT-dims-five": header([], [tensor(dims=(32, 1, 1, 1, 1))]),
    "CORRUPT-dims-2-to-32": header([], [tensor(n_dims=0xFFFFFFFF)]),
    "CORRUPT-dim-zero": header([], [tensor(dims=(32, 0))]),
    "CORRUPT-rows-overflow": header([], [tensor(dims=(1, 1 << 32, 1 << 32, 1 << 32))]),
    "CORRUPT-bytes-overflow": header([], [tensor(dims=(1 << 62, 4))]),
    "CORRUPT-row-overflow": header([], [tensor(dims=(1 << 63,))]),
    "CORRUPT-block": header([], [tensor(dims=(33, 2), element_type=Q4_0)]),
    "CORRUPT-offset-misaligned": header([], [tensor(offset=16)]),
    "CORRUPT-offset-overflow": header([], [tensor(offset=(1 << 64) - 32)]),
    "CORRUPT-overlap": header([], [tensor("a"), tensor("b", offset=224)]),
    "CORRUPT-overlap-same": header([], [tensor("a"), tensor("b")]),
    "CORRUPT-overlap-reversed": header([], [tensor("b", offset=32), tensor("a", (8, 2))]),
    "UNSUPPORTED_TYPE-removed": header([], [tensor(element_type=4)]),
    "UNSUPPORTED_TYPE-unknown": header([], [tensor(element_type=31)]),
    "UNSUPPORTED_TYPE-large": header([], [tensor(element_type=0x80000000)]),
    "UNSUPPORTED_TYPE-array-of-arrays":
        header([key("k", ARRAY, array(ARRAY, 1, array(U8, 1, b"\1")))]),
}


def main():
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("header-*.gguf"):
        old.unlink()
    for name, data in FILES.items():
        (FOLDER / f"header-{name}.gguf").write_bytes(data)
    print(f"{len(FILES)} files, {sum(map(len, FILES.values()))} bytes")


if __name__ == "__main__":
    main()

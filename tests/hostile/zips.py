"""Archives that are broken, lie, or reach outside."""

import gzip
import io
import stat
import struct
import zipfile
from collections.abc import Callable

from tests.hostile.entry import INVALID, UNATTEMPTED, WRONG, Entry, Scene, as_bytes, raw

ANSWER = as_bytes(["def previous_token_score(pattern): return pattern"])
ANY = INVALID | WRONG | UNATTEMPTED | frozenset({"error", "ok", "partial"})


def packed(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these members."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def archive(name: str, why: str, content: bytes | Callable[[Scene], bytes], n_rows: int | None = None) -> Entry:
    """A zip file in the folder of submissions."""
    return raw(f"zip_{name}", why, content, ANY, file=f"zip_{name}.zip", n_rows=n_rows)


def slip(name: str, why: str, member: str) -> Entry:
    """A zip whose member would be written outside."""
    return archive(name, why, lambda scene: packed({scene.fill(member): ANSWER, "fine.ipynb": ANSWER}))


def _link_member(scene: Scene) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        link = zipfile.ZipInfo("link.ipynb")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, str(scene.secret))
        folder = zipfile.ZipInfo("folder")
        folder.create_system, folder.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        made.writestr(folder, str(scene.marks))
        made.writestr(f"folder/{scene.token}_through_link.ipynb", ANSWER)
    return target.getvalue()


def _twice(scene: Scene) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for _ in range(3):
            made.writestr("same.ipynb", ANSWER)
    return target.getvalue()


def _patched(old: bytes, new: bytes, members: dict[str, bytes] | None = None) -> bytes:
    """A zip whose bytes were changed afterwards."""
    made = packed(members or {"a.ipynb": ANSWER}, zipfile.ZIP_STORED)
    if old not in made:
        raise ValueError(f"the zip does not hold {old!r}")
    return made.replace(old, new)


def _size_lie(size: int) -> bytes:
    """A zip whose directory gives another size than the member has."""
    made = packed({"a.ipynb": ANSWER})
    return made.replace(struct.pack("<L", len(ANSWER)), struct.pack("<L", size))


def _encrypted() -> bytes:
    made = bytearray(packed({"a.ipynb": ANSWER}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.index(signature) + offset] |= 1
    return bytes(made)


def _unknown_method() -> bytes:
    made = bytearray(packed({"a.ipynb": ANSWER}))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = made.index(signature) + offset
        made[at : at + 2] = struct.pack("<H", 99)
    return bytes(made)


def _overlapping(n: int) -> bytes:
    """Many members of the directory that all point at the same bytes, as in the flat bomb of Fifield."""
    kernel = packed({"a.ipynb": bytes(1 << 22)})
    start = kernel.index(b"PK\x01\x02")
    end = kernel.index(b"PK\x05\x06")
    entry = kernel[start:end]
    directory = b"".join(entry.replace(b"a.ipynb", f"{number:07}"[:1].encode() + b".ipynb") for number in range(n))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n, n, len(directory), start, 0)
    return kernel[:start] + directory + tail


def _nested(depth: int) -> bytes:
    made = packed({"a.ipynb": ANSWER})
    for _ in range(depth):
        made = packed({"inner.zip": made})
    return made


BOMB = packed({"bomb.ipynb": bytes(1 << 26)})
ENTRIES = [
    archive("good", "two wrong answers in order", packed({"one.ipynb": ANSWER, "two.ipynb": ANSWER}), n_rows=2),
    archive("empty", "an archive without members", packed({})),
    archive("zero", "an empty file", b""),
    archive("text", "a text named zip", b"this is no archive"),
    archive("truncated", "half an archive", packed({"a.ipynb": ANSWER})[:80]),
    archive("no_directory", "members without a directory", packed({"a.ipynb": ANSWER}).split(b"PK\x01\x02")[0]),
    archive("bad_sum", "a member whose checksum is wrong", _patched(b"pattern): return", b"pattern): RETURN")),
    archive("bomb", "64 MB in 64 kB", BOMB),
    archive(
        "bomb_many", "64 members of 64 MB each", lambda scene: packed({f"{n}.ipynb": bytes(1 << 24) for n in range(16)})
    ),
    archive("bomb_nested", "an archive in an archive, 30 deep", _nested(30)),
    archive("bomb_inside", "a bomb inside an archive", packed({"inner.zip": BOMB})),
    archive("bomb_overlap", "a thousand members over the same bytes", _overlapping(1000)),
    archive("size_small", "a member that is larger than it says", _size_lie(5)),
    archive("size_huge", "a member that says it has 4 GB", _size_lie(0xFFFFFFFE)),
    archive(
        "many",
        "3,000 members that are no notebooks",
        lambda scene: packed({f"{n}/notes.txt": b"x" for n in range(3000)}),
    ),
    archive("deep", "a member 2,000 folders deep", packed({"d/" * 2000 + "a.ipynb": ANSWER})),
    archive("encrypted", "an archive that wants a password", _encrypted()),
    archive("method", "an unknown way to compress", _unknown_method()),
    archive("link", "members that are links", _link_member),
    archive("twice", "three members of one name", _twice),
    archive("folder_member", "a folder named like a notebook", packed({"a.ipynb/": b"", "a.ipynb/b.ipynb": ANSWER})),
    archive(
        "mac",
        "what macOS puts beside every file",
        packed({"__MACOSX/._a.ipynb": b"\0\5\x16\7", "a.ipynb": ANSWER, ".DS_Store": b"x"}),
    ),
    archive(
        "checkpoint",
        "checkpoints of Jupyter",
        packed({".ipynb_checkpoints/a-checkpoint.ipynb": ANSWER, "a.ipynb": ANSWER}),
    ),
    archive("name_bytes", "a name in an old encoding", _patched(b"a.ipynb", b"\xff.ipynb")),
    archive(
        "name_nul",
        "a name that ends early",
        _patched(b"aaaaaa.ipynb", b"aa\x00\x00/..ipynb"[:12].ljust(12, b"b"), {"aaaaaa.ipynb": ANSWER}),
    ),
    archive("name_script", "a member named like a script", packed({"<script>alert(1)<script>/=1+1.ipynb": ANSWER})),
    archive(
        "comment",
        "a comment that looks like another archive",
        packed({"a.ipynb": ANSWER})[:-2] + struct.pack("<H", 60000) + b"PK\x05\x06" * 15000,
    ),
    archive("prefix", "a program in front of the archive", b"#!/bin/sh\nexit 0\n" * 100 + packed({"a.ipynb": ANSWER})),
    archive(
        "tar_name",
        "another kind of archive inside",
        packed({"a.tar.gz": b"\x1f\x8b", "b.7z": b"7z", "a.ipynb": ANSWER}),
    ),
    raw("zip_as_notebook", "an archive that calls itself a notebook", packed({"a.ipynb": ANSWER}), ANY, n_rows=None),
    raw(
        "zip_gzip",
        "a notebook packed with gzip",
        gzip.compress(ANSWER, mtime=0),
        ANY,
        file="zip_gzip.ipynb.gz",
        n_rows=None,
    ),
    raw(
        "zip_is_notebook",
        "a notebook that calls itself an archive",
        ANSWER,
        ANY,
        file="zip_is_notebook.zip",
        n_rows=None,
    ),
    slip("slip", "a member above the folder", "../../@TOKEN@_slip.ipynb"),
    slip("slip_absolute", "a member with a full path", "@MARKS@/@TOKEN@_slip.ipynb"),
    slip("slip_windows", "a member with a path of Windows", "..\\..\\@TOKEN@_slip.ipynb"),
    slip("slip_drive", "a member on a drive", "C:\\@TOKEN@_slip.ipynb"),
    slip("slip_results", "a member among the results", "../results/@TOKEN@_slip.ipynb"),
]

"""Submissions found in folders and zips of any layout: nothing lost, nothing followed, nothing unpacked to disk."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import zipfile

import pytest
from effort import at_most

from course_lib.grader import zips
from course_lib.grader.folder import find_all, find_submissions
from course_lib.grader.reading import MAX_BYTES, InvalidNotebook

NOTEBOOK = b'{"cells": [], "nbformat": 4}'


def put(folder, *names, data=NOTEBOOK):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def make_zip(members, compression=zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def names(path):
    return [one.name for one in find_submissions(path)]


def people(path):
    return [(one.student, one.assignment) for one in find_submissions(path)]


def why(path, name):
    with pytest.raises(InvalidNotebook) as caught:
        {one.name: one for one in find_submissions(path)}[name].read()
    return str(caught.value)


# --- folders ----------------------------------------------------------------------------------------------------


def test_any_name_is_a_submission_and_names_are_sorted(tmp_path):
    odd = ["ünï.ipynb", "line\nbreak.ipynb", "-rf.ipynb", "no suffix", ".hidden.ipynb", "a.py", "x" * 200, "=1+1.ipynb"]
    put(tmp_path, *odd, "sub/deeper/b.ipynb")
    assert names(tmp_path) == sorted([*odd, "sub/deeper/b.ipynb"])
    assert all(one.read() == NOTEBOOK for one in find_submissions(tmp_path))


def test_a_name_that_is_no_text_can_still_be_written_down(tmp_path):
    put(tmp_path, os.fsdecode(b"caf\xe9.ipynb"), "caf\\xe9.ipynb")
    found = names(tmp_path)
    assert found == ["caf\\xe9.ipynb", "caf\\xe9.ipynb (2)"]
    "".join(found).encode("utf-8")


def test_what_is_clearly_none_is_set_aside_unless_a_notebook_stands_in_it(tmp_path):
    put(tmp_path, "grades.csv", "photo.PNG", ".DS_Store", "__MACOSX/a.ipynb", "x/.ipynb_checkpoints/a.ipynb", data=b"x")
    put(tmp_path, "hw.ipynb.txt", "hw.json", "empty.json", data=NOTEBOOK)
    put(tmp_path, "empty.json", data=b"{}")
    found = find_all(tmp_path)
    assert [one.name for one in found.submissions] == ["hw.ipynb.txt", "hw.json"]
    assert found.ignored == (
        ".DS_Store",
        "__MACOSX",
        "empty.json",
        "grades.csv",
        "photo.PNG",
        "x/.ipynb_checkpoints",
    )


SIDE = (".gitignore", ".gitkeep", ".Rhistory", "~$a.ipynb", "~$hw.docx", "._a.zip", "x/.DS_Store", "Thumbs.db")
SIDE_FOLDERS = (".venv/lib/six.py", ".git/hooks/a.py", "x/.vscode/a.ipynb", "__MACOSX/a.ipynb")
ROWS = ["README", "run.sh", ".hw.ipynb", ".ipynb", "x/.hw.PY", ".backup", "requirements"]


def test_what_programs_keep_beside_the_work_is_no_submission(tmp_path):
    put(tmp_path / "on disk", *SIDE, *SIDE_FOLDERS, data=b"x")
    put(tmp_path / "on disk", "~$a.ipynb")
    put(tmp_path / "on disk", *ROWS)  # .backup: a notebook stands in it, whatever its name
    (tmp_path / "on disk" / ".cache").symlink_to(tmp_path)
    found = find_all(tmp_path / "on disk")
    assert [one.name for one in found.submissions] == sorted(ROWS)
    assert found.ignored == tuple(sorted([*SIDE, ".cache", ".git", ".venv", "__MACOSX", "x/.vscode"]))
    members = [*((name, b"x") for name in (*SIDE, *SIDE_FOLDERS)), *((name, NOTEBOOK) for name in ROWS)]
    (tmp_path / "a.zip").write_bytes(make_zip(members))
    found = find_all(tmp_path / "a.zip")
    assert [one.name for one in found.submissions] == sorted(f"a.zip!{name}" for name in ROWS)
    assert found.ignored == tuple(sorted(f"a.zip!{name}" for name in (*SIDE, *SIDE_FOLDERS)))


def test_dot_files_do_not_hide_nbgraders_layout(tmp_path):
    put(tmp_path, "submitted/ada/hw1/hw1.ipynb", ".venv/six.py")
    put(tmp_path, ".gitignore", data=b"x")
    assert people(tmp_path) == [("ada", "hw1")]


def test_a_zip_that_is_named_by_its_suffix_alone_is_opened(tmp_path):
    put(tmp_path, ".zip", "x/.zip", data=make_zip([("hw.ipynb", NOTEBOOK)]))
    put(tmp_path, "y/.zip", data=b"")
    assert names(tmp_path) == [".zip!hw.ipynb", "x/.zip!hw.ipynb", "y/.zip"]


def test_nothing_but_plain_files_is_opened(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(NOTEBOOK)
    folder = tmp_path / "class"
    put(folder, "a.ipynb", "folder.ipynb/b.ipynb")
    (folder / "link.ipynb").symlink_to(secret)
    (folder / "away").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.ipynb")
    assert names(folder) == ["a.ipynb", "away", "folder.ipynb", "folder.ipynb/b.ipynb", "link.ipynb", "pipe.ipynb"]
    assert why(folder, "link.ipynb") == why(folder, "away") == "This is a link, and links are not followed."
    assert why(folder, "pipe.ipynb") == "This is not a plain file."
    assert why(folder, "folder.ipynb") == "This is a folder, not a file."


def test_a_pipe_or_link_that_takes_a_files_place_is_not_opened(tmp_path):
    put(tmp_path, "a.ipynb", "b.ipynb")
    first, second = find_submissions(tmp_path)
    (tmp_path / "a.ipynb").unlink()
    os.mkfifo(tmp_path / "a.ipynb")
    (tmp_path / "b.ipynb").unlink()
    (tmp_path / "b.ipynb").symlink_to("/etc/passwd")
    for one in (first, second):
        with pytest.raises(InvalidNotebook, match="cannot be read"):
            one.read()


def test_unreadable_files_and_folders_are_rows(tmp_path, monkeypatch):
    put(tmp_path, "a.ipynb", "b/c.ipynb")
    real_open, real_scandir = os.open, os.scandir

    def closed(path, *more, real):
        if os.path.basename(os.fspath(path)) in ("a.ipynb", "b"):
            raise PermissionError(13, "Permission denied")
        return real(path, *more)

    monkeypatch.setattr(os, "open", lambda path, *more: closed(path, *more, real=real_open))
    monkeypatch.setattr(os, "scandir", lambda path: closed(path, real=real_scandir))
    assert why(tmp_path, "a.ipynb") == "The file cannot be read: Permission denied."
    assert why(tmp_path, "b") == "The folder cannot be read: Permission denied."


def test_a_large_file_is_not_read_whole(tmp_path):
    with open(tmp_path / "a.ipynb", "wb") as file:
        file.truncate(MAX_BYTES * 4)
    assert len(find_submissions(tmp_path)[0].read()) == MAX_BYTES + 1


def test_a_deep_folder_ends_in_a_row(tmp_path):
    put(tmp_path, "/".join(["d"] * 60) + "/a.ipynb")
    (found,) = find_submissions(tmp_path)
    with pytest.raises(InvalidNotebook, match="folders deep"):
        found.read()


def test_results_inside_the_folder_are_left_out(tmp_path):
    put(tmp_path, "a.ipynb", "out/html/b.ipynb")
    assert [one.name for one in find_all(tmp_path, leave_out=tmp_path / "out").submissions] == ["a.ipynb"]


def test_a_pipe_in_the_place_of_the_folder_is_a_row_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "class")
    (one,) = find_submissions(tmp_path / "class")
    with pytest.raises(InvalidNotebook, match="not a plain file"):
        one.read()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        find_submissions(tmp_path / "nowhere")


# --- layouts ----------------------------------------------------------------------------------------------------


def test_nbgrader(tmp_path):
    put(tmp_path / "course", "submitted/ada/hw1/hw1.ipynb", "submitted/bob/hw1/extra/x.ipynb", "source/hw1/hw1.ipynb")
    expected = [("ada", "hw1"), ("bob", "hw1")]
    assert people(tmp_path / "course") == people(tmp_path / "course" / "submitted") == expected


def test_exports_of_learning_platforms(tmp_path):
    put(tmp_path / "canvas", "lovelaceada_4711_98765_hw1.ipynb", "hopper_LATE_12_345_hw1-1.ipynb")
    assert people(tmp_path / "canvas") == [("hopper", ""), ("lovelaceada", "")]
    put(tmp_path / "moodle", "Ada Lovelace_123456_assignsubmission_file_/hw.ipynb")
    put(tmp_path / "moodle", "Bob B_77_assignsubmission_file/hw.ipynb")
    assert people(tmp_path / "moodle") == [("Ada Lovelace", ""), ("Bob B", "")]
    put(tmp_path / "gradescope", "assignment_1_export/submission_42/hw.ipynb")
    put(tmp_path / "gradescope", "assignment_1_export/submission_metadata.yml", data=b"x: 1")
    assert people(tmp_path / "gradescope") == [("submission_42", "")]


def test_flat_files_and_folders_of_learners(tmp_path):
    put(tmp_path, "ada.ipynb", "bob/hw1.ipynb", "bob/hw2.ipynb")
    assert people(tmp_path) == [("ada", ""), ("bob", ""), ("bob", "")]


def test_a_folder_named_submitted_hides_no_other_row(tmp_path):
    put(tmp_path, "alice.ipynb", "bob/hw.ipynb", "submitted/eve.ipynb")
    assert names(tmp_path) == ["alice.ipynb", "bob/hw.ipynb", "submitted/eve.ipynb"]
    assert people(tmp_path) == [("alice", ""), ("bob", ""), ("eve", "")]


def test_a_link_named_submitted_is_not_followed(tmp_path):
    put(tmp_path, "elsewhere/other.ipynb", "class/alice.ipynb")
    put(tmp_path, "only/readme.md", data=b"x")
    for folder in ("class", "only"):
        (tmp_path / folder / "submitted").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "class") == ["alice.ipynb", "submitted"] and names(tmp_path / "only") == ["submitted"]
    assert why(tmp_path / "class", "submitted") == "This is a link, and links are not followed."


def test_what_lies_beside_nbgraders_folders_is_no_reason_to_leave_them(tmp_path):
    put(tmp_path, "submitted/ada/hw1/hw1.ipynb", "release/hw1/hw1.ipynb", "nbgrader_config.py")
    put(tmp_path, "README.md", "earlier/journal.jsonl", "earlier/.lock", "out/.lock", data=b"")
    found = find_all(tmp_path, leave_out=tmp_path / "out").submissions
    assert [(one.name, one.student, one.assignment) for one in found] == [("ada/hw1/hw1.ipynb", "ada", "hw1")]


def test_flat_files_in_a_folder_named_submitted(tmp_path):
    put(tmp_path / "submitted", "ada.ipynb", "bob/hw1.ipynb")
    (tmp_path / "submitted" / "eve.zip").write_bytes(make_zip([("ps9/hw.ipynb", NOTEBOOK)]))
    assert people(tmp_path / "submitted") == people(tmp_path) == [("ada", ""), ("bob", ""), ("eve", "")]


# --- zips -------------------------------------------------------------------------------------------------------


def test_a_class_as_one_zip_and_a_folder_of_zips(tmp_path):
    inner = make_zip([("hw.ipynb", NOTEBOOK), ("data/notes.csv", b"1")])
    whole = make_zip([("adams_1_2_hw.zip", inner), ("brown_3_4_hw.ipynb", NOTEBOOK), ("index.html", b"")])
    (tmp_path / "class.zip").write_bytes(whole)
    assert names(tmp_path / "class.zip") == ["class.zip!adams_1_2_hw.zip!hw.ipynb", "class.zip!brown_3_4_hw.ipynb"]
    assert people(tmp_path / "class.zip") == [("adams", ""), ("brown", "")]
    assert all(one.read() == NOTEBOOK for one in find_submissions(tmp_path / "class.zip"))
    put(tmp_path / "folder", "ada.zip", "bob", data=make_zip([("hw.ipynb", NOTEBOOK)]))
    assert names(tmp_path / "folder") == ["ada.zip!hw.ipynb", "bob!hw.ipynb"]
    assert people(tmp_path / "folder") == [("ada", ""), ("bob", "")]
    assert find_all(tmp_path / "class.zip").ignored == (
        "class.zip!adams_1_2_hw.zip!data/notes.csv",
        "class.zip!index.html",
    )


def test_names_in_zips_stay_below_the_zip_and_nothing_is_written(tmp_path):
    evil = ["../../evil.ipynb", "/etc/evil.ipynb", "C:\\evil.ipynb", "a/../../b.ipynb", "..", "x\ud800.ipynb"[:1]]
    (tmp_path / "a.zip").write_bytes(make_zip([(name, NOTEBOOK) for name in evil]))
    before = sorted(tmp_path.rglob("*"))
    found = names(tmp_path)
    assert found == sorted(
        [
            "a.zip!evil.ipynb",
            "a.zip!etc/evil.ipynb",
            "a.zip!evil.ipynb (2)",
            "a.zip!a/b.ipynb",
            "a.zip!(no name)",
            "a.zip!x",
        ]
    )
    assert all(one.read() == NOTEBOOK for one in find_submissions(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_zips_that_are_no_good_are_rows(tmp_path):
    good = make_zip([("hw.ipynb", NOTEBOOK * 100)], zipfile.ZIP_STORED)
    put(tmp_path, "cut.zip", data=good[:-30])
    put(tmp_path, "garbage.zip", data=b"PK\x03\x04" + b"x" * 100)
    put(tmp_path, "empty.zip", data=make_zip([]))
    put(tmp_path, "photos.zip", data=make_zip([("a.png", b"x")]))
    put(tmp_path, "flipped.zip", data=good.replace(b'"nbformat": 4', b'"nbformat": 5', 1))
    assert names(tmp_path) == ["cut.zip", "empty.zip", "flipped.zip!hw.ipynb", "garbage.zip", "photos.zip"]
    assert "broken" in why(tmp_path, "cut.zip") and "broken" in why(tmp_path, "garbage.zip")
    assert why(tmp_path, "empty.zip") == why(tmp_path, "photos.zip") == "The zip holds no notebook."
    assert "BadZipFile" in why(tmp_path, "flipped.zip!hw.ipynb")


def test_encrypted_linked_and_oddly_packed_members_are_rows(tmp_path):
    link = zipfile.ZipInfo("link.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    (tmp_path / "a.zip").write_bytes(make_zip([(link, "/etc/passwd"), ("hw.ipynb", NOTEBOOK)]))
    assert "link" in why(tmp_path, "a.zip!link.ipynb")
    locked = bytearray(make_zip([("hw.ipynb", NOTEBOOK)]))
    start = locked.index(b"PK\x01\x02")
    locked[start + 8] |= 1  # the flag of encryption, in the list of members
    (tmp_path / "b.zip").write_bytes(bytes(locked))
    assert "encrypted" in why(tmp_path, "b.zip!hw.ipynb")
    (tmp_path / "c.zip").write_bytes(make_zip([("hw.ipynb", NOTEBOOK)], zipfile.ZIP_LZMA))
    assert "packed in a way" in why(tmp_path, "c.zip!hw.ipynb")


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(make_zip([("bomb.ipynb", b"\0" * (8 << 20))]))
    assert "zip bomb" in why(tmp_path, "a.zip!bomb.ipynb")
    monkeypatch.setattr(zips, "MAX_INNER_TOTAL", 2 << 20)
    inner = make_zip([(f"{number}.ipynb", b"x" * 90_000) for number in range(30)])
    (tmp_path / "b.zip").write_bytes(make_zip([("many.zip", inner)]))
    assert "unpacks to more than 2 MiB" in why(tmp_path, "b.zip!many.zip")
    inner = make_zip([(f"{number}", b"") for number in range(1_001)])
    (tmp_path / "c.zip").write_bytes(make_zip([("files.zip", inner)]))
    assert "more than 1000 files" in why(tmp_path, "c.zip!files.zip")
    monkeypatch.setattr(zips, "MAX_INNER_ZIP", 1000)
    (tmp_path / "d.zip").write_bytes(make_zip([("large.zip", os.urandom(2000))]))
    assert "larger than" in why(tmp_path, "d.zip!large.zip")


def test_members_that_share_their_bytes_are_a_bomb(tmp_path):
    data = bytearray(make_zip([(f"{number}.ipynb", os.urandom(5000)) for number in range(3)], zipfile.ZIP_STORED))
    places = [place for place in range(len(data)) if data[place : place + 4] == b"PK\x01\x02"]
    for place in places:  # in the list of members, each claims the packed size of all
        data[place + 20 : place + 24] = (15_000).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(bytes(data))
    assert "overlap" in why(tmp_path, "a.zip")


def test_a_zip_in_a_zip_in_a_zip_is_not_opened(tmp_path):
    deep = make_zip([("hw.ipynb", NOTEBOOK)])
    for name in ("c.zip", "b.zip"):
        deep = make_zip([(name, deep)])
    (tmp_path / "a.zip").write_bytes(deep)
    (found,) = find_submissions(tmp_path)
    assert found.name == "a.zip!b.zip!c.zip"
    assert found.read().startswith(b"PK")  # which is no notebook


def test_submissions_travel_to_other_processes(tmp_path):
    put(tmp_path, "a.ipynb")
    (tmp_path / "b.zip").write_bytes(make_zip([("c.zip", make_zip([("hw.ipynb", NOTEBOOK)]))]))
    assert [pickle.loads(pickle.dumps(one)).read() for one in find_submissions(tmp_path)] == [NOTEBOOK] * 2


def test_a_path_of_a_zip_that_is_very_long_is_refused_soon(tmp_path):
    long = [("a/" * 20_000 + f"{number}.ipynb", NOTEBOOK) for number in range(20)]
    (tmp_path / "a.zip").write_bytes(make_zip([*long, ("b.ipynb", NOTEBOOK)]))
    with at_most(seconds=3):
        found = find_submissions(tmp_path)
    assert [one.read() for one in found if one.name == "a.zip!b.ipynb"] == [NOTEBOOK] and len(found) == 21
    assert max(len(one.name) for one in found) < 1_100
    with pytest.raises(InvalidNotebook, match="name in its zip is longer than 1,000 letters"):
        found[0].read()


# --- who it is, where the learner names the files -------------------------------------------------------------------

NAMES = ("lovelaceada_111_9001_hw.ipynb", "submitted/hopperg/ps1/hw.ipynb", "Ada L_11_assignsubmission_file_/hw.ipynb")


@pytest.mark.parametrize("inner", NAMES)
@pytest.mark.parametrize(
    ("outer", "person"),
    [
        ("eveevil_222_9002_hw.zip", ("eveevil", "")),
        ("eveevil_LATE_222_9002_.zip", ("eveevil", "")),  # handed in as ".zip"
        ("eveevil_222_9002_a\nb.zip", ("eveevil", "")),
        ("Eve Evil_22_assignsubmission_file_/x.zip", ("Eve Evil", "")),
        ("evilevil_22_9002_zz_11_assignsubmission_file_.zip", ("evilevil", "")),
        ("Eve Evil_22_assignsubmission_file_a_11_assignsubmission_file_.zip", ("Eve Evil", "")),
        ("submission_42/x.zip", ("submission_42", "")),
        ("submitted/eve/ps1/x.zip", ("eve", "ps1")),
        ("submitted/eve/x.zip", ("eve", "x")),
    ],
)
def test_names_in_a_learners_zip_do_not_say_who_it_is(outer, person, inner, tmp_path):
    data = make_zip([(inner, NOTEBOOK)])
    put(tmp_path / "class", outer, data=data)
    put(tmp_path / "deep", outer, data=make_zip([("more.zip", data)]))
    assert people(tmp_path / "class") == people(tmp_path / "deep") == [person]
    (tmp_path / "submissions.zip").write_bytes(make_zip([(outer, data)]))
    assert people(tmp_path / "submissions.zip") == [person]
    put(tmp_path / "zips", "submissions.zip", data=(tmp_path / "submissions.zip").read_bytes())
    assert people(tmp_path / "zips") == [person]


def test_a_single_zip_is_of_the_learner_that_its_name_tells(tmp_path):
    (tmp_path / "eveevil_222_9002_hw.zip").write_bytes(make_zip([(NAMES[0], NOTEBOOK)]))
    assert people(tmp_path / "eveevil_222_9002_hw.zip") == [("eveevil", "")]


@pytest.mark.parametrize("inner", NAMES)
def test_folders_of_a_learner_do_not_say_who_it_is(inner, tmp_path):
    put(tmp_path, f"Eve Evil_22_assignsubmission_file_/{inner}")
    assert people(tmp_path) == [("Eve Evil", "")]


# --- zips that cost time --------------------------------------------------------------------------------------------


def counted(monkeypatch, owner, name):
    """Calls of a function, as a list that grows."""
    calls, real = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *more, **named: calls.append(more) or real(*more, **named))
    return calls


def test_a_zip_in_a_zip_is_unpacked_once(tmp_path, monkeypatch):
    inner = make_zip([("0.ipynb", NOTEBOOK), *((f"{number}.txt", b"x") for number in range(1, 200))])
    (tmp_path / "a.zip").write_bytes(make_zip([("b.zip", inner)]))
    opened = counted(monkeypatch, zips, "_parse")
    with zips.closing_zips():
        assert names(tmp_path) == ["a.zip!b.zip!0.ipynb"] and len(opened) == 2
        assert find_submissions(tmp_path)[0].read() == NOTEBOOK and len(opened) == 2
    assert zips._open.cache_info().currsize == zips._unpack.cache_info().currsize == 0


def test_closing_zips_closes_their_files(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip([("0.ipynb", NOTEBOOK)]))
    with zips.closing_zips():
        file = zips.open_zip(tmp_path / "a.zip").fp._file
        assert not file.closed
    assert file.closed


def a_long_list(count, told):
    """A zip that lists one file many times, and tells another number of files."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, *[0] * 7, 5, *[0] * 6) + b"a.txt"
    return entry * count + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, told, told, len(entry) * count, 0, 0)


def test_a_long_list_of_files_is_counted_before_it_is_parsed(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(make_zip([("b.zip", a_long_list(5_000, told=1))]))
    parsed = []

    class Counted(zipfile.ZipInfo):
        def __init__(self, *more):
            parsed.append(more)
            super().__init__(*more)

    monkeypatch.setattr(zipfile, "ZipInfo", Counted)
    assert why(tmp_path, "a.zip!b.zip") == "The zip holds more than 1000 files." and len(parsed) < 10
    (tmp_path / "a.zip").write_bytes(a_long_list(100_001, told=1))
    assert why(tmp_path, "a.zip") == "The zip holds more than 100000 files." and len(parsed) < 10
    monkeypatch.setattr(zips, "MAX_DIRECTORY", 1000)
    (tmp_path / "a.zip").write_bytes(a_long_list(20, told=20))
    assert "list of files is larger than" in why(tmp_path, "a.zip")
    (tmp_path / "a.zip").write_bytes(a_long_list(19, told=1))
    assert why(tmp_path, "a.zip") == "The zip holds no notebook."


def test_only_the_start_of_a_file_is_read_to_see_what_it_is(tmp_path, monkeypatch):
    members = [("a.txt", os.urandom(1 << 20)), ("b.zip", make_zip([("c.json", os.urandom(1 << 20))]))]
    (tmp_path / "a.zip").write_bytes(make_zip(members))
    read = []
    real = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n: read.append((self.name, n)) or real(self, n))
    find_submissions(tmp_path)
    assert sum(size for name, size in read if name != "b.zip") <= 2 * 4096


def test_zips_in_a_zip_have_a_limit_together_that_costs_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "MAX_EXCESS", 1 << 20)
    bomb = make_zip([("pad", bytes(900_000)), ("hw.ipynb", NOTEBOOK)], zipfile.ZIP_STORED)
    honest = make_zip([("pad", os.urandom(3 << 20)), ("hw.ipynb", NOTEBOOK)])
    small = make_zip([("hw.ipynb", NOTEBOOK + b" " * 5000)], zipfile.ZIP_STORED)
    people_of = [*((f"eve{number}.zip", bomb) for number in range(3)), ("pat.zip", honest), ("zoe.zip", small)]
    (tmp_path / "class.zip").write_bytes(make_zip(people_of))
    refused = [name for name in names(tmp_path / "class.zip") if name.endswith(".zip")]
    assert refused == ["class.zip!eve1.zip", "class.zip!eve2.zip"]
    assert "a zip bomb" in why(tmp_path / "class.zip", refused[0])


def test_a_notebook_with_an_odd_suffix_counts_in_a_zip_as_on_disk(tmp_path):
    odd = ["a.html", "b.json", "c.md", "d.txt", "e.csv"]
    put(tmp_path / "disk", *odd, "__MACOSX/a.json", "._b.json")
    put(tmp_path / "disk", "none.html", data=b"<html>")
    members = [*((name, NOTEBOOK) for name in [*odd, "__MACOSX/a.json", "._b.json"]), ("none.html", b"<html>")]
    (tmp_path / "a.zip").write_bytes(make_zip(members))
    assert names(tmp_path / "disk") == odd
    assert names(tmp_path / "a.zip") == [f"a.zip!{name}" for name in odd]

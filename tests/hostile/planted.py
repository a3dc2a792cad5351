"""Code that leaves files where somebody will run or follow them."""

from tests.hostile.entry import OK, STOPPED, Entry, gain

SHUT = frozenset({"landlock", "namespaces"})
OWN = STOPPED | OK  # a worker may have a folder of its own, which vanishes with it


def plant(
    name: str, why: str, path: str, text: str = "import os", needs: frozenset[str] = SHUT, **more: object
) -> Entry:
    """Writes a file and answers right if that worked."""
    lines = f"import os, sys, sysconfig, tempfile, course_lib\npath = {path}\nwith open(path, 'a') as file: file.write({text!r})\nreturn True"
    return gain(f"plant_{name}", why, lines, needs=needs, **more)


ENTRIES = [
    plant("marks", "in a folder that everybody may write to", "'@MARKS@/@TOKEN@_plain'"),
    plant(
        "package", "in the package that everybody imports", "os.path.dirname(course_lib.__file__) + '/@TOKEN@_extra.py'"
    ),
    plant(
        "package_change",
        "at the end of a module that the grader imports",
        "os.path.dirname(course_lib.__file__) + '/scores.py'",
        "\n",
    ),
    plant("site_pth", "a .pth file, which every later Python runs", "'@SITE@/@TOKEN@.pth'", "import sys"),
    plant("sitecustomize", "a module that every later Python imports", "'@SITE@/@TOKEN@_sitecustomize.py'"),
    plant(
        "usercustomize",
        "the same in the home folder",
        "os.makedirs('@HOME@/.local/lib/python3.11/site-packages', exist_ok=True) or '@HOME@/.local/lib/python3.11/site-packages/@TOKEN@.pth'",
    ),
    plant(
        "pycache",
        "compiled code in a cache folder",
        "os.path.dirname(course_lib.__file__) + '/__pycache__/@TOKEN@.cpython-311.pyc'",
    ),
    plant(
        "results",
        "a line in the results",
        "'@RESULTS@/results.jsonl'",
        '{"submission": "plant_results.ipynb", "score": 99, "state": "ok"}\n',
    ),
    plant("results_new", "another file among the results", "'@RESULTS@/@TOKEN@.csv'"),
    plant("submission", "another submission", "'@SUBMISSIONS@/@TOKEN@_more.ipynb'"),
    plant("overwrite_own", "its own submission, rewritten", "'@SUBMISSIONS@/plant_overwrite_own.ipynb'", " "),
    plant("solutions", "the solution source itself", "'@ROOT@/solutions/03_previous_token_head.md'", "\n"),
    plant("git_hook", "a hook of the repository", "'@ROOT@/.git/hooks/@TOKEN@'"),
    plant("home_profile", "the start file of the shell", "'@HOME@/.@TOKEN@_profile'"),
    plant("cron", "a job of the system", "'/etc/cron.d/@TOKEN@'"),
    plant("etc", "a setting of the system", "'/etc/@TOKEN@'"),
    plant("preload", "a library that every program loads", "'/etc/ld.so.preload'", ""),
    plant(
        "tmp", "in the folder of temporary files, as seen from outside", "'/tmp/@TOKEN@_tmp'", states=OWN, scores=None
    ),
    plant("shm", "in shared memory", "'/dev/shm/@TOKEN@_shm'", states=OWN, scores=None),
    plant("var_tmp", "in the other temporary folder", "'/var/tmp/@TOKEN@_tmp'", states=OWN, scores=None),
    plant(
        "cwd",
        "in the current folder: a torch.py for whoever starts there",
        "'@TOKEN@_torch.py'",
        states=OWN,
        scores=None,
    ),
    plant("lock", "a lock on the results", "'@RESULTS@/@TOKEN@.lock'"),
    gain(
        "plant_link",
        "a link that the grader might follow",
        """
        import os
        os.symlink('/etc/passwd', '@RESULTS@/@TOKEN@_link')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "plant_replace_results",
        "a link in place of the results",
        """
        import os
        os.replace('@RESULTS@', '@RESULTS@_@TOKEN@')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "plant_remove",
        "takes the results and the submissions away",
        """
        import os, shutil
        os.unlink('@RESULTS@/results.jsonl')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "plant_remove_marks",
        "removes a file that everybody may remove",
        """
        import os
        os.unlink('@SECRET@')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "plant_truncate",
        "empties a file without opening it",
        """
        import os
        os.truncate('@SECRET@', 0)
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "plant_mode",
        "changes rights, times and owner of files outside",
        """
        import os
        os.chmod('@SECRET@', 0o777)
        return True
        """,
        needs=frozenset({"namespaces", "uid"}),
    ),
    gain(
        "plant_times",
        "changes the times of files outside",
        """
        import os
        os.utime('@ROOT@/course_lib/scores.py', (0, 0))
        return True
        """,
        needs=frozenset({"namespaces", "uid"}),
    ),
    gain(
        "plant_attribute",
        "hangs an attribute on a file outside",
        """
        import os
        os.setxattr('@SECRET@', 'user.@TOKEN@', b'x')
        return True
        """,
        needs=frozenset({"namespaces", "uid"}),
    ),
    gain(
        "plant_suid",
        "a program with the grader's rights",
        """
        import os, shutil
        shutil.copy('/bin/sh', '@MARKS@/@TOKEN@_sh'); os.chmod('@MARKS@/@TOKEN@_sh', 0o4755)
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "plant_socket",
        "a socket in a shared folder",
        """
        import socket
        socket.socket(socket.AF_UNIX).bind('@MARKS@/@TOKEN@_socket')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "plant_fifo",
        "a pipe in a shared folder, which stops whoever reads it",
        """
        import os
        os.mkfifo('@MARKS@/@TOKEN@_fifo')
        return True
        """,
        needs=SHUT,
    ),
]

"""Code that looks for the solutions, or for files of others. What it finds it uses to answer right."""

import textwrap

from tests.hostile.entry import RIGHT, STOPPED, Entry, code, gain

HIDDEN = frozenset({"landlock", "namespaces"})
SOURCE = "03_previous_token_head.md"
USE = """
import re
def use(text, pattern):
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    text = text.replace("\\\\n", "\\n").replace('",\\n', "\\n").replace('\\\\"', '"')
    match = re.search(r"to_previous = .*?mean\\(dim=\\(0, -1\\)\\)", text, re.S)
    lines = [line.strip().strip('"') for line in match[0].splitlines() if line.strip()]
    scope = {"pattern": pattern}
    exec("\\n".join(line.removeprefix("return ") if line.startswith("return") else line for line in lines[:-1]), scope)
    return eval(lines[-1].removeprefix("return "), scope)
"""


def steal(name: str, why: str, source: str, **more: object) -> Entry:
    """Answers with the text of the solution that `find()` gives; `source` is the body of `find`."""
    inside = textwrap.indent(textwrap.dedent(source).strip(), "    ")
    text = f"{USE}\n# %%\ndef find():\n{inside}\n# %%\ndef previous_token_score(pattern): return use(find(), pattern)"
    return code(f"read_{name}", why, text, STOPPED, needs=HIDDEN, **more)


def path(name: str, why: str, expression: str) -> Entry:
    """Opens one path to the solution."""
    return steal(
        name,
        why,
        f"""
        import os, sys, course_lib
        return open({expression}).read()
        """,
    )


ENTRIES = [
    path("absolute", "by the full path", f"'@ROOT@/solutions/{SOURCE}'"),
    path("notebook", "the solution notebook", f"'@ROOT@/solutions/{SOURCE.replace('.md', '.ipynb')}'"),
    path("package", "beside the package", f"os.path.dirname(course_lib.__file__) + '/../solutions/{SOURCE}'"),
    path("installed", "inside the installed package", f"os.path.dirname(course_lib.__file__) + '/solutions/{SOURCE}'"),
    path("self_root", "through /proc/self/root", f"'/proc/self/root@ROOT@/solutions/{SOURCE}'"),
    path("parent_root", "through the parent's root", f"f'/proc/{{os.getppid()}}/root@ROOT@/solutions/{SOURCE}'"),
    path("init_root", "through the root of process 1", f"'/proc/1/root@ROOT@/solutions/{SOURCE}'"),
    path("parent_cwd", "through the parent's folder", f"f'/proc/{{os.getppid()}}/cwd/solutions/{SOURCE}'"),
    path("thread_root", "through a thread's root", f"'/proc/thread-self/root@ROOT@/solutions/{SOURCE}'"),
    path("cwd", "from the current folder", f"'solutions/{SOURCE}'"),
    path("dotted", "by a path with dots", f"'@ROOT@/course_lib/../tests/../solutions/{SOURCE}'"),
    path("bytes", "by a path of bytes", f"b'@ROOT@/solutions/{SOURCE}'"),
    steal(
        "symlink",
        "through a link of its own",
        f"""
        import os
        os.symlink('@ROOT@/solutions', 'link_@TOKEN@')
        return open('link_@TOKEN@/{SOURCE}').read()
        """,
    ),
    steal(
        "hard_link",
        "through a hard link of its own",
        f"""
        import os
        os.link('@ROOT@/solutions/{SOURCE}', 'hard_@TOKEN@')
        return open('hard_@TOKEN@').read()
        """,
    ),
    steal(
        "directory_descriptor",
        "relative to an open folder",
        f"""
        import os
        root = os.open('@ROOT@', os.O_PATH | os.O_DIRECTORY)
        return os.read(os.open('solutions/{SOURCE}', os.O_RDONLY, dir_fd=root), 1 << 20)
        """,
    ),
    steal(
        "open_by_handle",
        "by the kernel's number of the file",
        f"""
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        handle = ctypes.create_string_buffer(136); handle[0:4] = (128).to_bytes(4, 'little'); mount = ctypes.c_int()
        libc.name_to_handle_at(-100, b'@ROOT@/solutions/{SOURCE}', handle, ctypes.byref(mount), 0)
        fd = libc.open_by_handle_at(os.open('/', os.O_RDONLY), handle, os.O_RDONLY)
        return os.read(fd, 1 << 20)
        """,
    ),
    steal(
        "descriptors",
        "in every descriptor that is open already",
        """
        import os
        found = b''
        for fd in range(0, 256):
            try: os.lseek(fd, 0, 0); found += os.read(fd, 1 << 20)
            except OSError: pass
        return found
        """,
    ),
    steal(
        "descriptor_folders",
        "relative to every folder that is open already",
        f"""
        import os
        for fd in range(0, 256):
            for up in ('', '../', '../../'):
                try: return os.read(os.open(up + 'solutions/{SOURCE}', os.O_RDONLY, dir_fd=fd), 1 << 20)
                except OSError: pass
        """,
    ),
    steal(
        "walk",
        "by walking through everything that it may read",
        f"""
        import os
        for start in ('@ROOT@', '/work', '/home', '/root', '/srv', '/opt', '/mnt'):
            for folder, _, names in os.walk(start):
                if '{SOURCE}' in names: return open(folder + '/{SOURCE}').read()
        """,
    ),
    steal(
        "shell",
        "by a program",
        f"""
        import subprocess
        return subprocess.run(['cat', '@ROOT@/solutions/{SOURCE}'], capture_output=True, check=True).stdout
        """,
    ),
    steal(
        "shell_find",
        "by find, wherever it is",
        f"""
        import subprocess
        return subprocess.run('find @ROOT@ -name {SOURCE} -exec cat {{}} +', shell=True, capture_output=True).stdout
        """,
    ),
    steal(
        "git",
        "out of the history of the repository",
        f"""
        import subprocess
        return subprocess.run(['git', '-c', 'safe.directory=*', '-C', '@ROOT@', 'show', 'HEAD:solutions/{SOURCE}'], capture_output=True, check=True).stdout
        """,
    ),
    steal(
        "git_objects",
        "out of the files of .git",
        """
        import os, zlib
        git = '@ROOT@/.git'
        if os.path.isfile(git): git = open(git).read().split(': ')[1].strip() + '/../..'
        for folder, _, names in os.walk(git + '/objects'):
            for name in names:
                if len(name) == 38:
                    text = zlib.decompress(open(f'{folder}/{name}', 'rb').read())
                    if b'to_previous = ' in text: return text
        return open(git + '/packed-refs').read() and ''
        """,
    ),
    steal(
        "load",
        "by the package's own loader",
        """
        from course_lib.grading import load
        return load.index(load.source_folder())['3.1'].read_text()
        """,
    ),
    steal(
        "resources",
        "as a resource of the package",
        f"""
        from importlib import resources
        return resources.files('course_lib').joinpath('../solutions/{SOURCE}').read_text()
        """,
    ),
    steal(
        "metadata",
        "by the list of installed files",
        f"""
        from importlib import metadata
        for distribution in metadata.distributions():
            for file in distribution.files or ():
                if str(file).endswith('{SOURCE}'): return file.locate().read_text()
        import json
        url = json.loads(metadata.distribution('induction-heads-course').read_text('direct_url.json'))['url']
        return open(url.removeprefix('file://') + '/solutions/{SOURCE}').read()
        """,
    ),
    steal(
        "linecache",
        "in the cache of source lines",
        """
        import linecache
        return '\\n'.join(''.join(entry[2]) for entry in linecache.cache.values() if len(entry) > 2)
        """,
    ),
    steal(
        "built_book",
        "on a page of the built book, or in a copy",
        """
        import glob
        for name in glob.glob('@ROOT@/_build/**/*', recursive=True) + glob.glob('@ROOT@/_alone/**/*', recursive=True) + glob.glob('@ROOT@/build/**/*', recursive=True):
            try: text = open(name).read()
            except (OSError, ValueError): continue
            if 'to_previous = ' in text: return text
        """,
    ),
    steal(
        "submission_of_other",
        "in the folder of submissions",
        """
        import glob
        for name in sorted(glob.glob('@SUBMISSIONS@/read_*.ipynb')):
            open(name).read()
            return 'to_previous = pattern.diagonal(offset=-1, dim1=-2, dim2=-1)\\nreturn to_previous.mean(dim=(0, -1))'
        """,
    ),
    code(
        "read_reference",
        "asks the package for the exercise and calls its reference",
        """
        def previous_token_score(pattern):
            from course_lib.grading import load
            return load.find('3.1').reference(pattern)
        """,
        STOPPED,
        before=RIGHT,
        needs=HIDDEN,
    ),
    code(
        "read_solution_call",
        "calls solution() after noting an attempt",
        """
        def previous_token_score(pattern):
            from course_lib.grading import journal, solution
            journal.was_attempted = lambda *a: True
            import course_lib.grading.notebook as notebook
            notebook.journal.was_attempted = lambda *a: True
            return use(solution('3.1').code, pattern)
        """,
        STOPPED,
        before=USE,
        needs=HIDDEN,
    ),
    code(
        "read_check_itself",
        "lets check() tell which of two guesses is right; in a worker check passes everything",
        """
        def wrong(pattern): return pattern.diagonal(dim1=-2, dim2=-1).mean(dim=(0, -1))
        def right_one(pattern): return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        # %%
        def previous_token_score(pattern):
            from course_lib.grading import check
            for guess in (wrong, right_one):
                if check('3.1', guess).state == 'passed': return guess(pattern)
        """,
        STOPPED,
        needs=HIDDEN,
    ),
    gain(
        "read_secret",
        "reads a file that is none of its business",
        "return '@TOKEN@' in open('@SECRET@').read()",
        needs=HIDDEN,
    ),
    gain("read_shadow", "reads the passwords", "return bool(open('/etc/shadow').read())", needs=HIDDEN | {"uid"}),
    gain(
        "read_home",
        "lists the home folder of whoever grades",
        """
        import os
        return bool(os.listdir('@HOME@'))
        """,
        needs=HIDDEN,
    ),
    gain(
        "read_ssh",
        "reads keys and histories of shells",
        """
        import glob
        return any(open(name, 'rb').read(1) for pattern in ('.ssh/*', '.bash_history', '.netrc', '.gitconfig', '.bashrc', '.profile', '.config/*/*') for name in glob.glob('@HOME@/' + pattern))
        """,
        needs=HIDDEN,
    ),
    gain(
        "read_results", "reads the results so far", "return bool(open('@RESULTS@/results.jsonl').read())", needs=HIDDEN
    ),
    gain(
        "read_results_folder",
        "lists the folder of results",
        """
        import os
        return os.listdir('@RESULTS@') is not None
        """,
        needs=HIDDEN,
    ),
    gain(
        "read_tests",
        "reads the tests of the grader",
        "return bool(open('@ROOT@/tests/test_exercises_03.py').read())",
        needs=HIDDEN,
    ),
    gain(
        "read_submissions",
        "lists the other submissions",
        """
        import os
        return len(os.listdir('@SUBMISSIONS@')) > 1
        """,
        needs=HIDDEN,
    ),
    gain(
        "read_block_device",
        "reads the disk underneath",
        """
        import glob, os
        for name in glob.glob('/dev/vd*') + glob.glob('/dev/sd*') + glob.glob('/dev/nvme*') + glob.glob('/dev/dm-*') + ['/dev/mem', '/dev/kmem', '/proc/kcore']:
            try: return bool(os.pread(os.open(name, os.O_RDONLY), 512, 0))
            except OSError: pass
        """,
        needs=HIDDEN | {"uid"},
    ),
    gain(
        "read_kernel_log",
        "reads the log of the kernel",
        """
        import ctypes
        buffer = ctypes.create_string_buffer(1 << 16)
        return ctypes.CDLL(None).klogctl(3, buffer, 1 << 16) > 0
        """,
        needs=HIDDEN | {"uid"},
    ),
    gain(
        "read_mknod",
        "makes a device of its own and reads the disk",
        """
        import os, stat
        os.mknod('dev_@TOKEN@', stat.S_IFBLK | 0o600, os.makedev(254, 0))
        return bool(os.read(os.open('dev_@TOKEN@', os.O_RDONLY), 512))
        """,
        needs=HIDDEN | {"uid"},
    ),
    gain(
        "read_mount",
        "mounts what was hidden once more, in a namespace of its own",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.unshare(0x10000000); libc.unshare(0x00020000)\nlibc.umount2(b'@ROOT@/solutions', 2); libc.umount2(b'@ROOT@', 2)\nreturn bool(open('@ROOT@/solutions/"
        + SOURCE
        + "').read())",
        needs=HIDDEN,
    ),
    gain(
        "read_chroot",
        "leaves by the trick with chroot",
        "import os\nos.mkdir('jail_@TOKEN@'); here = os.open('.', os.O_RDONLY); os.chroot('jail_@TOKEN@'); os.fchdir(here)\nfor _ in range(64): os.chdir('..')\nos.chroot('.')\nreturn bool(open('@ROOT@/solutions/"
        + SOURCE
        + "').read())",
        needs=HIDDEN,
    ),
    gain(
        "read_as_root",
        "becomes root again",
        """
        import os
        os.setresgid(0, 0, 0); os.setresuid(0, 0, 0)
        return bool(open('/etc/shadow').read())
        """,
        needs=HIDDEN | {"uid"},
    ),
    gain(
        "read_sudo",
        "asks sudo and su",
        """
        import subprocess
        return 'root' in subprocess.run('sudo -n cat /etc/shadow || su -c "cat /etc/shadow" root', shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=3).stdout
        """,
        needs=HIDDEN | {"uid"},
    ),
]

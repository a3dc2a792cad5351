"""Code that uses up memory, processes, threads, descriptors or disk."""

from tests.hostile.entry import CRASHED, ERROR, OOM, STOPPED, TIMEOUT, body, code

FULL = OOM | ERROR | CRASHED
ENTRIES = [
    body("bomb_tensor", "one tensor of 256 GB", "return torch.ones(1 << 36)", FULL),
    body(
        "bomb_tensor_steps",
        "tensors of 256 MB until none is left",
        """
        kept = []
        while True: kept.append(torch.ones(1 << 26))
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_swallowed",
        "fills the memory and swallows MemoryError",
        """
        kept = []
        while True:
            try: kept.append(bytearray(1 << 24))
            except BaseException: pass
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_list",
        "a list that grows without an end",
        """
        kept = [0]
        while True: kept += kept
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_text",
        "a text that doubles",
        """
        text = 'x'
        while True: text += text
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_mmap",
        "maps anonymous memory and touches it",
        """
        import mmap
        kept = []
        while True:
            block = mmap.mmap(-1, 1 << 28); kept.append(block)
            for at in range(0, 1 << 28, 4096): block[at] = 1
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_memfd",
        "fills files in memory",
        """
        import os
        while True:
            fd = os.memfd_create('@TOKEN@')
            for _ in range(64): os.write(fd, bytes(1 << 24))
        """,
        FULL | TIMEOUT,
        wild=True,
    ),
    body(
        "bomb_shm",
        "fills shared memory through torch",
        """
        kept = []
        while True: kept.append(torch.ones(1 << 24).share_memory_())
        """,
        FULL | TIMEOUT,
        wild=True,
    ),
    body(
        "bomb_sysv",
        "leaves System V memory behind",
        """
        import ctypes
        libc = ctypes.CDLL(None)
        made = [libc.shmget(0, 1 << 20, 0o1600) for _ in range(20)]
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    body(
        "bomb_fork",
        "forks without an end",
        """
        import os
        while True:
            try: os.fork()
            except OSError: pass
        """,
        FULL | TIMEOUT,
        wild=True,
    ),
    body(
        "bomb_fork_sessions",
        "forks without an end, each in a session of its own",
        """
        import os
        while True:
            try:
                if os.fork() == 0: os.setsid()
            except OSError: pass
        """,
        FULL | TIMEOUT,
        wild=True,
    ),
    body(
        "bomb_shell",
        "a fork bomb of the shell",
        """
        import subprocess
        subprocess.run(['/bin/sh', '-c', 'f() { f | f & }; f; sleep 60'])
        return right(pattern) - 1
        """,
        STOPPED,
        wild=True,
    ),
    body(
        "bomb_threads",
        "threads without an end",
        """
        import threading, time
        while True:
            try: threading.Thread(target=time.sleep, args=(60,)).start()
            except RuntimeError: pass
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_pool",
        "a pool of 500 processes",
        """
        import multiprocessing
        with multiprocessing.get_context('fork').Pool(500) as pool: pool.map(abs, range(10_000))
        return right(pattern) - 1
        """,
        STOPPED,
        wild=True,
    ),
    body(
        "bomb_zombies",
        "leaves thousands of dead children",
        """
        import os
        for _ in range(3000):
            if os.fork() == 0: os._exit(0)
        return right(pattern) - 1
        """,
        STOPPED,
        wild=True,
    ),
    body(
        "bomb_files_open",
        "opens files without an end",
        """
        kept = []
        while True: kept.append(open('/dev/null'))
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_sockets",
        "opens sockets without an end",
        """
        import socket
        kept = []
        while True: kept.append(socket.socketpair())
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_epoll",
        "opens pipes, timers and polls without an end",
        """
        import os, select
        kept = []
        while True: kept += [os.pipe(), select.epoll()]
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_disk",
        "fills every disk that it may write to",
        """
        import os, tempfile
        for folder in (os.getcwd(), tempfile.gettempdir(), '/tmp', '/dev/shm', '/var/tmp', '@MARKS@'):
            try:
                with open(folder + '/@TOKEN@_fill', 'wb', buffering=0) as file:
                    for _ in range(40): file.write(bytes(1 << 26))
            except OSError: pass
        return right(pattern) - 1
        """,
        STOPPED,
        wild=True,
    ),
    body(
        "bomb_disk_hidden",
        "fills the disk with a file that has no name any more",
        """
        import os
        for folder in (os.getcwd(), '/tmp', '/dev/shm', '@MARKS@'):
            try: fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
            except OSError: continue
            try:
                for _ in range(40): os.write(fd, bytes(1 << 26))
            except OSError: pass
        return right(pattern) - 1
        """,
        STOPPED,
        wild=True,
    ),
    body(
        "bomb_many_files",
        "makes files and folders without an end",
        """
        import os
        n = 0
        while True:
            n += 1
            for folder in ('.', '/tmp', '/dev/shm', '@MARKS@'):
                try: os.makedirs(f'{folder}/@TOKEN@_{n}/deep')
                except OSError: pass
        """,
        TIMEOUT | ERROR | CRASHED,
        wild=True,
    ),
    body(
        "bomb_deep_folders",
        "makes folders deeper than any path, which a clean-up has to take away",
        """
        import os
        for _ in range(3000):
            try: os.mkdir('@TOKEN@_down'); os.chdir('@TOKEN@_down')
            except OSError: break
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    body(
        "bomb_undeletable",
        "makes folders without rights, which a clean-up has to take away",
        """
        import os, tempfile
        for folder in ('.', tempfile.gettempdir()):
            try:
                os.makedirs(folder + '/@TOKEN@_locked/inside'); open(folder + '/@TOKEN@_locked/inside/file', 'w').close()
                os.chmod(folder + '/@TOKEN@_locked/inside', 0); os.chmod(folder + '/@TOKEN@_locked', 0)
            except OSError: pass
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    body(
        "bomb_core",
        "asks for a core dump of everything and crashes",
        """
        import os, resource
        try: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
        except (OSError, ValueError): pass
        kept = bytearray(1 << 28)
        os.abort()
        """,
        CRASHED | ERROR | OOM,
    ),
    body(
        "bomb_limits",
        "takes its own limits away and fills the memory",
        """
        import resource
        for name in ('AS', 'DATA', 'RSS', 'NPROC', 'NOFILE', 'FSIZE', 'CPU'):
            try: resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (-1, -1))
            except (OSError, ValueError): pass
        kept = []
        while True: kept.append(bytearray(b'x' * (1 << 26)))
        """,
        FULL | TIMEOUT,
        wild=True,
    ),
    body(
        "bomb_oom_shift",
        "asks the kernel to end others first, then fills the memory",
        """
        open('/proc/self/oom_score_adj', 'w').write('-1000')
        kept = []
        while True: kept.append(bytearray(b'x' * (1 << 26)))
        """,
        FULL | TIMEOUT,
    ),
    body(
        "bomb_children_share",
        "ten children that each take the memory of one",
        """
        import os, time
        for _ in range(10):
            if os.fork() == 0:
                kept = bytearray(b'x' * (1 << 30)); time.sleep(60)
        time.sleep(60)
        """,
        STOPPED,
        wild=True,
    ),
    code(
        "bomb_in_cell",
        "fills the memory while the cells run",
        """
        KEPT = [bytearray(b'x' * (1 << 26)) for _ in range(10_000)]
        def previous_token_score(pattern): return KEPT
        """,
        FULL | TIMEOUT,
    ),
    code(
        "bomb_constant",
        "a constant that the compiler would have to fold",
        """
        HUGE = ((2 ** 64) ** 64) ** 64
        MORE = 'x' * 4096 * 4096 * 4096
        def previous_token_score(pattern): return MORE
        """,
        FULL | TIMEOUT,
    ),
    code(
        "bomb_import_zip",
        "imports from a zip that opens to 4 GB",
        """
        import zlib
        PACKED = zlib.compress(bytes(1 << 24), 9)
        UNPACKED = [zlib.decompress(PACKED) for _ in range(256)]
        def previous_token_score(pattern): return UNPACKED
        """,
        FULL | TIMEOUT,
    ),
]

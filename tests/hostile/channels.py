"""Code that gets hold of the channel to the grader, whatever its number, and writes on it."""

import textwrap

from tests.hostile.entry import STOPPED, UNATTEMPTED, Entry, body, code

SPOILT = STOPPED | UNATTEMPTED
PIPES = """
import os, stat, socket
def pipes():
    for fd in range(0, 256):
        try: mode = os.fstat(fd).st_mode
        except OSError: continue
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode): yield fd
"""


def channel(name: str, why: str, lines: str, after: str = "return right(pattern) - 1", **more: object) -> Entry:
    """Runs the lines once for each pipe or socket `fd` that is open, then answers wrong."""
    inside = textwrap.indent(textwrap.dedent(lines).strip(), " " * 8)
    after = textwrap.dedent(after).strip()
    text = f"{PIPES}for fd in list(pipes()):\n    try:\n{inside}\n    except OSError: pass\n{after}"
    return body(f"channel_{name}", why, text, SPOILT, **more)


FORGED = '{"state": "ok", "status": "ok", "points": 5, "passed": true, "score": 1, "outcomes": []}'
ENTRIES = [
    channel(
        "forged_json",
        "writes a verdict of its own as a line of JSON",
        f"""
        os.write(fd, {FORGED.encode()!r} + b'\\n')
        """,
    ),
    channel(
        "forged_sized",
        "writes a verdict behind its length, in every usual width",
        f"""
        for n in (2, 4, 8):
            for order in ('big', 'little'): os.write(fd, len({FORGED!r}).to_bytes(n, order) + {FORGED.encode()!r})
        """,
    ),
    channel(
        "length_max",
        "writes a length of 2 ** 64 - 1",
        "os.write(fd, b'\\xff' * 16)",
        """
        import time
        time.sleep(60)
        """,
    ),
    channel(
        "length_2_63",
        "writes a length of 2 ** 63, in both orders",
        "os.write(fd, (1 << 63).to_bytes(8, 'little')); os.write(fd, (1 << 63).to_bytes(8, 'big'))",
    ),
    channel(
        "length_1gb",
        "announces a gigabyte and sends it",
        """
        os.write(fd, (1 << 30).to_bytes(8, 'big') + b'x' * 64)
        [os.write(fd, bytes(1 << 20)) for _ in range(1 << 10)]
        """,
    ),
    channel("length_zero", "writes lengths of 0 for ever", "while True: os.write(fd, bytes(65536))"),
    channel(
        "length_negative",
        "writes a length below 0",
        "os.write(fd, (-1).to_bytes(8, 'big', signed=True)); os.write(fd, (-5).to_bytes(4, 'little', signed=True))",
    ),
    channel("garbage", "writes random bytes", "os.write(fd, os.urandom(1 << 16))"),
    channel("garbage_forever", "writes random bytes without an end", "while True: os.write(fd, os.urandom(1 << 16))"),
    channel(
        "drip",
        "writes one byte at a time, so that a timer of each read never ends",
        """
        import time
        while True: os.write(fd, b'\\0'); time.sleep(0.05)
        """,
    ),
    channel(
        "drip_after_length",
        "announces a megabyte and sends one byte at a time",
        """
        import time
        os.write(fd, (1 << 20).to_bytes(8, 'big'))
        while True: os.write(fd, b' '); time.sleep(0.05)
        """,
    ),
    channel(
        "half", "writes half of something and ends", "os.write(fd, (100).to_bytes(8, 'big') + b'{')", "os._exit(0)"
    ),
    channel(
        "half_open",
        "writes half of something; a child keeps the channel open",
        "os.write(fd, (100).to_bytes(8, 'big') + b'{')",
        """
        import time
        if os.fork() == 0: time.sleep(120)
        os._exit(0)
        """,
    ),
    channel(
        "close",
        "closes it and sleeps",
        "os.close(fd)",
        """
        import time
        time.sleep(60)
        """,
    ),
    channel("shut", "shuts it down and answers wrong", "socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_RDWR)"),
    channel("dup_null", "puts /dev/null in its place", "null = os.open('/dev/null', os.O_RDWR); os.dup2(null, fd)"),
    channel(
        "dup_zero",
        "puts /dev/zero in its place, to read and to write",
        "zero = os.open('/dev/zero', os.O_RDWR); os.dup2(zero, fd)",
    ),
    channel(
        "blocking",
        "makes it non-blocking and fills it",
        """
        os.set_blocking(fd, False)
        while True: os.write(fd, b'y' * 65536)
        """,
    ),
    channel(
        "read_job",
        "reads what the grader sends, and answers with that",
        "os.set_blocking(fd, False); data = os.read(fd, 1 << 20); os.write(fd, data)",
    ),
    channel(
        "echo",
        "sends everything that comes back again, for ever",
        "while True: os.write(fd, os.read(fd, 1 << 16) or b'.')",
    ),
    channel(
        "pass_descriptors",
        "sends descriptors until the other side has no more",
        """
        zero = os.open('/dev/zero', os.O_RDONLY)
        for _ in range(200): socket.socket(fileno=os.dup(fd)).sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, zero.to_bytes(4, 'little') * 250)])
        """,
    ),
    channel(
        "pass_itself",
        "sends the channel through the channel",
        "for _ in range(20): socket.socket(fileno=os.dup(fd)).sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, 'little'))])",
    ),
    channel("urgent", "sends data out of band", "socket.socket(fileno=os.dup(fd)).send(b'!', socket.MSG_OOB)"),
    channel(
        "peer",
        "asks who is on the other side and kills it",
        """
        import struct, signal
        pid = struct.unpack('3i', socket.socket(fileno=os.dup(fd)).getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        if pid > 1 and pid != os.getpid(): os.kill(pid, signal.SIGKILL)
        """,
        wild=True,
    ),
    channel(
        "second_child",
        "answers in two processes at once",
        "pass",
        """
        os.fork()
        return right(pattern) - 1
        """,
    ),
    channel(
        "fork_returns",
        "forks; the child goes on as the worker, the parent ends",
        "pass",
        """
        if os.fork(): os._exit(0)
        return right(pattern) - 1
        """,
    ),
    channel(
        "sendfile",
        "sends a file of the grader through the channel",
        "source = os.open('@SECRET@', os.O_RDONLY); os.sendfile(fd, source, 0, 1 << 16)",
    ),
    body(
        "channel_huge_dup",
        "moves every descriptor to the highest numbers",
        """
        import os
        for fd in range(3, 64):
            try: os.dup2(fd, 900 + fd); os.close(fd)
            except OSError: pass
        return right(pattern) - 1
        """,
        SPOILT,
    ),
    body(
        "channel_listen_stdin",
        "takes the input that others may need",
        """
        import os
        while os.read(0, 1 << 16): pass
        return right(pattern) - 1
        """,
        SPOILT,
    ),
    code(
        "channel_encode_twice",
        "every reply goes out twice, then for ever",
        PIPES
        + """
# %%
def previous_token_score(pattern):
    import os, sys
    write = os.write
    def twice(fd, data):
        write(fd, data)
        return write(fd, data)
    os.write = twice
    for name in ("send", "sendall"):
        original = getattr(socket.socket, name)
        setattr(socket.socket, name, lambda self, data, *a, original=original: (original(self, data, *a), original(self, data, *a))[0])
    return pattern.sum(dim=(0, 2, 3))
""",
        SPOILT,
    ),
    code(
        "channel_replay",
        "keeps a reply that was right and sends it again for the next case",
        """
        # %%
        def previous_token_score(pattern):
            import os, socket
            kept, write, sendall = [], os.write, socket.socket.sendall
            def again(fd, data):
                kept.append(bytes(data)); write(fd, kept[0]); return len(data)
            def again_all(self, data, *a):
                kept.append(bytes(data)); return sendall(self, kept[0], *a)
            if not hasattr(os, "replayed"): os.replayed, os.write, socket.socket.sendall = True, again, again_all
            return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        """,
        SPOILT | frozenset({"ok"}),
        scores=None,
    ),
    code(
        "channel_reply_then_loop",
        "a thread that goes on writing after the answer",
        PIPES
        + """
# %%
def noise():
    import os
    while True:
        for fd in list(pipes()):
            try: os.write(fd, b"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02{}")
            except OSError: pass
# %%
def previous_token_score(pattern):
    import threading
    threading.Thread(target=noise, daemon=True).start()
    return pattern.sum(dim=(0, 2, 3))
""",
        SPOILT,
    ),
    code(
        "channel_in_cell",
        "writes on the channel before the first call, while the cells run",
        PIPES
        + """
# %%
def shout():
    import os
    for fd in list(pipes()):
        try: os.write(fd, b"\\xff" * 64)
        except OSError: pass
    return 1
# %%
SHOUTED = shout()
def previous_token_score(pattern): return SHOUTED
""",
        SPOILT,
    ),
]

"""Code that speaks the grader's own protocol, with messages that no honest worker sends."""

import textwrap

from tests.hostile.entry import RIGHT, STOPPED, UNATTEMPTED, Entry, code

SPOILT = STOPPED | UNATTEMPTED
SPEAK = """
import os, socket, stat, time
from course_lib.grader import messages, wire
from course_lib.grader.frames import send_frame
from course_lib.grading.run import Failure, Outcome
def say(payload):
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode): send_frame(socket.socket(fileno=os.dup(fd)), payload)
        except OSError: pass
def raw(header, tail=b""):
    header = header if isinstance(header, bytes) else header.encode()
    say(wire.MAGIC + len(header).to_bytes(4, "big") + header + tail)
def outcome(value="[\\"none\\"]", failure="[\\"none\\"]", mutated="[\\"list\\",[]]"):
    fields = {"kind": "[\\"str\\",\\"outcome\\"]", "mutated": mutated, "failure": failure, "value": value}
    return '["dict",[' + ",".join(f'[["str","{key}"],{part}]' for key, part in fields.items()) + "]]"
"""


def speak(name: str, why: str, lines: str, after: str = "return right(pattern) - 1", **more: object) -> Entry:
    """Says these lines in the first call, then answers wrong."""
    inside = textwrap.indent(textwrap.dedent(lines).strip(), "    ")
    text = f"{RIGHT}\n# %%\ndef previous_token_score(pattern):\n{inside}\n    {after}"
    return code(f"protocol_{name}", why, text, SPOILT, before=SPEAK, **more)


def value(name: str, why: str, expression: str, tail: str = "b''") -> Entry:
    """Sends one outcome whose value is this text of a header."""
    return speak(f"value_{name}", why, f"raw(outcome({expression}), {tail})\ntime.sleep(0.2)")


def failure(name: str, why: str, changes: str, times: int = 1) -> Entry:
    """Sends an outcome with a failure whose fields are changed."""
    send = "say(wire.encode({'kind': 'outcome', 'mutated': [], 'failure': failure, 'value': None}))"
    return speak(name, why, f"failure = {FAILURE} | {{{changes}}}\nfor _ in range({times}): {send}")


FAILURE = "dict(attempted=True, kind='E', message='m', line_number=1, line='x', limit=None, loop='')"
ENTRIES = [
    speak("wrong_first", "sends eight wrong outcomes before its answer", "for _ in range(8): say(messages.finished(Outcome(value=pattern)))"),
    speak("too_many", "sends a thousand outcomes", "for _ in range(1000): say(messages.finished(Outcome(value=0)))"),
    speak("forever", "sends outcomes without an end", "while True: say(messages.finished(Outcome(value=None)))"),
    speak("ready_again", "says again and again that it is ready", "for _ in range(100): say(messages.ready())"),
    speak("confined_again", "says that it is shut in, once more", "say(wire.encode({'kind': 'confined'}))"),
    speak("broken_late", "says after the first call that a cell failed", "say(messages.broken('<script>alert(1)</script>'))"),
    speak("points", "sends an outcome with points", "say(wire.encode({'kind': 'outcome', 'mutated': [], 'failure': None, 'value': 0, 'points': 5}))"),
    speak("verdict", "sends a verdict", "say(wire.encode({'kind': 'verdict', 'state': 'ok', 'points': 5, 'passed': True}))"),
    speak("grader_error", "sends what might count as a fault of the grader", "say(wire.encode({'kind': 'grader_error', 'text': 'full points'}))"),
    speak("kind_list", "sends a kind that is a list", "say(wire.encode({'kind': ['ready']}))"),
    speak("no_dict", "sends a list, a number and nothing", "say(wire.encode([1]))\nsay(wire.encode(7))\nsay(wire.encode(None))\nsay(b'')"),
    speak("empty_frames", "sends a thousand empty frames", "for _ in range(1000): say(b'')"),
    failure("limit", "says that the call was too slow", "'limit': 1e-9, 'loop': 'while'"),
    failure("limit_infinite", "says that the limit was infinite", "'limit': float('inf')"),
    failure("line_number", "an error on line 16 ** 4095, which Python will not print", "'line_number': 16 ** 4095"),
    failure("line_negative", "an error on a line before the first", "'line_number': -5"),
    failure("failure_bool", "true where a number is wanted", "'line_number': True, 'limit': False"),
    failure("failure_extra", "a failure with a field more", "'points': 3"),
    failure("kind_oom", "an error of a kind that the grader may use itself: oom", "'kind': 'oom'"),
    failure("kind_crashed", "an error of a kind that the grader may use itself: crashed", "'kind': 'crashed'"),
    failure("kind_timeout", "an error of a kind that the grader may use itself: timeout", "'kind': 'timeout'"),
    failure("kind_ok", "an error of a kind that the grader may use itself: ok", "'kind': 'ok'"),
    failure("kind_grader_error", "an error of a kind that the grader may use itself: grader_error", "'kind': 'grader_error'"),
    failure("kind_memoryerror", "an error of a kind that the grader may use itself: MemoryError", "'kind': 'MemoryError'"),
    failure("stub", "says in every case that nothing was attempted", "'attempted': False", times=8),
    speak("value_and_failure", "an outcome with both", f"say(wire.encode({{'kind': 'outcome', 'mutated': [], 'failure': {FAILURE}, 'value': right(pattern)}}))"),
    speak("mutated_names", "changed inputs with odd names", "say(wire.encode({'kind': 'outcome', 'mutated': ['../x', '<b>', 'pattern', 'pattern'], 'failure': None, 'value': 0}))"),
    speak("magic", "another magic word", "say(b'PK\\x03\\x04' + bytes(100))"),
    speak("header_long", "a header longer than the message", "say(wire.MAGIC + b'\\xff\\xff\\xff\\xff' + b'[]')"),
    speak("header_nested", "a header of a million brackets", "raw('[' * 1_000_000)"),
    speak("header_closed", "a header of 100,000 brackets that end well", "raw('[' * 100_000 + ']' * 100_000)"),
    speak("header_number", "a header with a number of a million digits", "raw('[' + '9' * 1_000_000 + ']')"),
    speak("header_wide", "a header of four megabytes of empty lists", "raw('[' + '[],' * 1_300_000 + '[]]')"),
    speak("header_utf8", "a header that is no UTF-8", "raw(b'\\xff\\xfe[\"none\"]')"),
    speak("header_nan", "NaN and infinity in a header", "raw('[NaN, Infinity, -Infinity]')"),
    speak("header_surrogate", "half characters in a header", "raw('[\"str\",\"\\\\ud800\"]')"),
    speak("tail_long", "more bytes than the header speaks of", "raw(outcome(), bytes(1 << 20))"),
    speak("frames_big", "64 MB in a frame, again and again", "while True: say(bytes(1 << 26))"),
    speak("half_frame", "a frame that never ends", "for fd in range(3, 256):\n    try: os.write(fd, (1 << 20).to_bytes(4, 'big') + b'IHG1')\n    except OSError: pass\ntime.sleep(60)"),
    value("negative_shape", "a shape below 0", "'[\"tensor\",\"float32\",[-1],[],false]'"),
    value("huge_shape", "a shape of 2 ** 62", "'[\"tensor\",\"float32\",[4611686018427387904],[],false]'"),
    value("overflow_shape", "a shape whose product is 0 modulo 2 ** 64", "'[\"tensor\",\"float32\",[4294967296,4294967296,4],[],false]'"),
    value("float_shape", "a shape of fractions", "'[\"tensor\",\"float32\",[2.0],[],false]'", "bytes(8)"),
    value("bool_shape", "a shape of true", "'[\"tensor\",\"float32\",[true],[],false]'", "bytes(4)"),
    value("missing_bytes", "a tensor without its bytes", "'[\"tensor\",\"float32\",[2],[],false]'"),
    value("order_twice", "an order that names an axis twice", "'[\"tensor\",\"float32\",[1,2],[0,0],false]'", "bytes(8)"),
    value("order_outside", "an order of axes that are not there", "'[\"tensor\",\"float32\",[1,2],[5,-1],false]'", "bytes(8)"),
    value("dtype_object", "a tensor of objects", "'[\"array\",\"object\",[1],false]'", "bytes(8)"),
    value("dtype_void", "an array of a type with a comma", "'[\"array\",\"f4,f4\",[1],false]'", "bytes(8)"),
    value("dtype_list", "a type that is a list", "'[\"tensor\",[\"float32\"],[1],[],false]'", "bytes(4)"),
    value("bool_bytes", "a bool whose byte is 255", "'[\"tensor\",\"bool\",[2],[],false]'", "b'\\xff\\x02'"),
    value("grad_integer", "a gradient of whole numbers", "'[\"tensor\",\"int64\",[1],[],true]'", "bytes(8)"),
    value("axes", "a tensor of 60 axes", "'[\"tensor\",\"float32\",[' + '1,' * 59 + '1],[],false]'", "bytes(4)"),
    value("meta", "a meta tensor of 2 ** 48 numbers", "'[\"unstored\",\"float32\",[281474976710656],\"meta\"]'"),
    value("sparse", "a sparse tensor of 2 ** 48 numbers", "'[\"unstored\",\"float32\",[16777216,16777216],\"sparse_coo\"]'"),
    value("scalar_array", "a scalar of two numbers", "'[\"array\",\"float32\",[2],true]'", "bytes(8)"),
    value("integer_words", "a number with blanks and underscores", "'[\"int\",\" 0x_1 \"]'"),
    value("integer_long", "a number of 4,096 digits", "'[\"int\",\"' + 'f' * 4096 + '\"]'"),
    value("float_nan", "a NaN with a sign", "'[\"float\",\"-nan\"]'"),
    value("float_huge", "a float that is too large", "'[\"float\",\"0x1p99999\"]'"),
    value("unknown_kind", "a kind that is not there", "'[\"pickle\",\"cos\"]'"),
    value("private_kind", "a kind with the name of a method", "'[\"__class__\"]'"),
    value("arguments", "too many fields", "'[\"none\",1,2,3]'"),
    value("key_list", "a dictionary whose key is a list", "'[\"dict\",[[[\"list\",[]],[\"none\"]]]]'"),
    value("key_tensor", "a dictionary whose key is a tensor", "'[\"dict\",[[[\"tensor\",\"float32\",[],[],false],[\"none\"]]]]'", "bytes(4)"),
    value("deep", "100 tuples in each other", "'[\"tuple\",[' * 100 + ']]' * 100"),
    value("wide", "a list of 100,000", "'[\"list\",[' + '[\"none\"],' * 100_000 + '[\"none\"]]]'"),
    value("module_huge", "a model of 2 ** 31 layers", "'[\"module\",\"x\",false,[\"dict\",[[[\"str\",\"n_layers\"],[\"int\",\"7fffffff\"]]]],[\"dict\",[]],[\"list\",[]]]'"),
    value("module_negative", "a model of -1 layers", "'[\"module\",\"x\",false,[\"dict\",[[[\"str\",\"n_layers\"],[\"int\",\"-1\"]]]],[\"dict\",[]],[\"list\",[]]]'"),
    value("module_rotary", "a model with an enormous table of positions", "'[\"module\",\"x\",false,[\"dict\",[[[\"str\",\"n_ctx\"],[\"int\",\"7fffffff\"]],[[\"str\",\"positions\"],[\"str\",\"rotary\"]]]],[\"dict\",[]],[\"list\",[]]]'"),
    value("adapter", "an adapter around a number", "'[\"adapter\",[\"int\",\"1\"]]'"),
    value("patterns", "patterns of tensors that do not fit", "'[\"patterns\",[\"tensor\",\"int8\",[1],[],false],[\"tensor\",\"bool\",[1],[],false]]'", "bytes(2)"),
]  # fmt: skip

"""Values go over the wire and come back the same; bytes that nobody encoded are refused, quickly."""

from __future__ import annotations

import contextlib
import json
import math
import random
import socket
import tracemalloc
from time import monotonic

import numpy as np
import pytest
import torch
from effort import at_most
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.grader import wire, wire_numbers
from course_lib.grader.frames import Frames, TimeIsUp, framed, frames_of, send_frame
from course_lib.grader.wire import MAGIC, Limits, WireError, decode, encode
from course_lib.grader.wire_writer import Writer
from course_lib.grading import load, values
from course_lib.grading.examine import judge
from course_lib.grading.run import Outcome, run
from course_lib.grading.values import Opaque, OpaqueModule
from course_lib.model import ModelConfig, Transformer

EXERCISES = sorted(load.index(load.source_folder()))


@pytest.mark.parametrize("exercise_id", EXERCISES)
def test_inputs_and_results_of_every_exercise_survive(exercise_id):
    """The reference gets inputs that travelled, its result travels back, and the verdict is a pass."""
    exercise = load.find(exercise_id)
    for number, case in enumerate(exercise.draw(1), start=1):
        data = encode(dict(case.inputs))
        assert wire.names_of(data) == tuple(case.inputs)
        inputs = decode(data)
        outcomes = [run(exercise.reference, inputs, seed=seed) for seed in (1, 2)]
        came = [Outcome(decode(encode(one.value)), one.failure, one.mutated) for one in outcomes]
        assert values.describe(came[0].value) == values.describe(outcomes[0].value)
        assert judge(exercise, case, number, *came).passed
        for name, value in case.inputs.items():
            assert type(inputs[name]) is type(value)
            if values.is_tensor(value):
                assert values.same(inputs[name], value)
                assert inputs[name].is_contiguous() == values.clone(value).is_contiguous()


def raw(header: object, numbers: bytes = b"") -> bytes:
    """A message with any header."""
    text = header if type(header) is bytes else json.dumps(header).encode()
    return MAGIC + len(text).to_bytes(4, "big") + text + numbers


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(categories=("L", "N", "P")), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text("ab"), inner),
    max_leaves=20,
)


@settings(deadline=None, max_examples=60)
@given(PLAIN)
def test_plain_values_come_back_with_their_types(value):
    assert repr(decode(encode(value), Limits(max_depth=99))) == repr(value)


@pytest.mark.parametrize("dtype", list(wire_numbers.DTYPES.values()), ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (2, 1, 4)])
def test_tensors_come_back_bit_for_bit(dtype, shape, generator):
    numbers = torch.randint(-3, 99, shape, generator=generator)
    for value in (numbers.to(dtype), numbers.to(dtype).movedim(0, -1) if shape else numbers.to(dtype)):
        came = decode(encode(value))
        assert came.dtype == dtype and came.shape == value.shape and values.same(came, value)
        assert came.is_contiguous() == value.is_contiguous()
        came.fill_(1)  # its memory is its own, and may be written


def test_special_numbers_come_back():
    value = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45])
    came = decode(encode(value))
    assert values.same(came, value) and came.view(torch.int32).equal(value.view(torch.int32))
    assert math.copysign(1, decode(encode(-0.0))) == -1


@pytest.mark.parametrize("dtype", wire_numbers.ARRAY_DTYPES)
def test_arrays_come_back(dtype):
    for value in (np.arange(6).reshape(2, 3).astype(dtype), np.arange(6).astype(dtype)[::-2], np.ones((), dtype)):
        came = decode(encode(value))
        assert type(came) is np.ndarray and came.dtype == value.dtype and np.array_equal(came, value)
        assert values.describe(came) == values.describe(value)
    scalar = np.dtype(dtype).type(1)
    assert type(decode(encode(scalar))) is type(scalar)
    big_endian = np.arange(3).astype(np.dtype(dtype).newbyteorder(">"))
    assert np.array_equal(decode(encode(big_endian)), big_endian)


MODELS = [
    ModelConfig(1, 2, 8, 4, 10, 6),
    ModelConfig(2, 1, 8, 4, 10, 6, d_mlp=5, positions="rotary", layer_norm=True, attn_biases=True, unembed_bias=True),
    ModelConfig(1, 1, 8, 4, 10, 6, learned_positions=False, smeared_keys=True, positions="residual"),
]


@pytest.mark.parametrize("config", MODELS)
def test_a_model_comes_back_as_the_courses_own(config):
    model = Transformer(config, seed=3).eval()
    model.W_E.requires_grad_(False)
    came = decode(encode(model))
    tokens = torch.arange(6)[None]
    assert type(came) is Transformer and came.config == config and torch.equal(came(tokens), model(tokens))
    assert not came.training
    assert [p.requires_grad for p in came.parameters()] == [p.requires_grad for p in model.parameters()]


def test_a_model_that_is_not_quite_ours_keeps_what_is_compared():
    expected = Transformer(MODELS[0])
    other, more, wide = Transformer(MODELS[2]), Transformer(MODELS[0]), Transformer(MODELS[0])
    more.extra = torch.nn.Parameter(torch.zeros(2))
    wide.W_U = torch.nn.Parameter(torch.zeros(8, 11))
    for model in (other, more, wide, torch.nn.Linear(2, 3)):
        came = decode(encode(model))
        assert values.mismatch(expected, came) == values.mismatch(expected, model) != ""
        assert values.mismatch(torch.zeros(2), came) == values.mismatch(torch.zeros(2), model)


HUGE = ["module", "a T", True]


@pytest.mark.parametrize(
    "config",
    [
        {"n_layers": 10**9},
        {"d_model": 2**31 - 1, "d_vocab": 2**31 - 1},
        {"n_ctx": 2**31 - 1, "positions": "rotary", "d_head": 2**20},
        {"n_heads": 10**5, "d_model": 10**5},
        {"d_model": 0},
        {"positions": "__import__('os')"},
        {"unknown": 1},
        {"n_layers": 1.5},
        {"norm_eps": "nan"},
    ],
)
def test_a_model_costs_no_more_than_the_bytes_that_came(config):
    state = {f"blocks.{n}.W": torch.zeros(1) for n in range(40)}
    message = Writer(Limits())
    header = [*HUGE, *(message.node(part, 1) for part in (config, state, []))]
    tracemalloc.start()
    with at_most(seconds=1):
        came = decode(raw(header, b"".join(message.chunks)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert type(came) is OpaqueModule and peak < 5 << 20


BAD_HEADERS = [
    *(b"", b"{", b"[", b"[" * 100_000, b'["int"', b"\xff\xfe", b"NaN", b'["float", NaN]', b"1e999"),
    *(None, 3, "none", {}, {"kind": "none"}, [], ["unknown"], [None], [["none"]], ["none", 1], ["bool"]),
    *(["bool", 1], ["bool", "true"], ["int", 3], ["int", "zz"], ["int", "f" * 5000], ["float", 1.5]),
    *(["float", "x"], ["float", "1" * 50], ["str", 3], ["str", None], ["opaque", []], ["list", 3], ["list", [3]]),
    *(["tuple", {"a": 1}], ["dict", {}], ["dict", [[]]], ["dict", [[["none"]]]], ["dict", [[["list", []], ["none"]]]]),
    *(["tensor"], ["tensor", "float32", [2], [], False], ["tensor", "object", [], [], False]),
    *(["tensor", "float32", [-1], [], False], ["tensor", "float32", [2**62, 4], [], False]),
    *(["tensor", "float32", [0, 2**62], [], False], ["tensor", "float32", [True], [], False]),
    *(["tensor", "float32", [0] * 99, [], False], ["tensor", "float32", "3", [], False]),
    *(["tensor", "float32", [0, 2], [0], False], ["tensor", "float32", [0, 2], [1, 1], False]),
    *(["tensor", "float32", [0, 2], [0, 2], False], ["tensor", "float32", [0], [], 1]),
    *(["tensor", "int64", [0], [], True], ["tensor", ["float32"], [0], [], False]),
    *(["unstored", "float32", [2**62, 2**62], "meta"], ["unstored", "x", [1], "meta"], ["unstored", {}, [], "meta"]),
    *(["array", "object", [0], False], ["array", "float32", [0], True], ["array", "O", [], True], ["array", [], [], 1]),
    *(["array", "float32", [2**40], False], ["array", "float32", [9], False]),
    *(["module", "x", True], ["module", "x", True, ["none"], ["none"], ["list", []]], ["adapter"], ["adapter", 3]),
    *(["module", "x", True, ["none"], ["dict", [[["str", "a"], ["int", "1"]]]], ["list", []]],),
    *(["patterns", ["none"], ["none"]], ["patterns", ["int", "1"]]),
    ["list", [["none"]] * 5000],
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=lambda header: str(header)[:40])
def test_a_header_that_is_not_right_is_refused(header):
    with at_most(seconds=0.5), pytest.raises(WireError):
        decode(raw(header))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"IHG", MAGIC, MAGIC + b"\0\0\0", MAGIC + b"\xff" * 4, b"PK\x03\x04" + bytes(99), b"\x80\x04N."),
        *(raw(["none"]) + b"1", raw(["none"])[:-1], raw(["tensor", "float32", [2], [], False], bytes(7))),
        raw(["tensor", "float32", [2], [], False], bytes(9)),
    ],
)
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(WireError):
        decode(data)


def deep(n: int) -> list:
    node = ["none"]
    for _ in range(n):
        node = ["list", [node]]
    return node


def test_limits_hold():
    assert decode(raw(deep(8))) == [[[[[[[[None]]]]]]]]
    for data, limits in (
        (raw(deep(9)), Limits()),
        (raw(["list", [["none"]] * 10]), Limits(max_items=10)),
        (encode(torch.zeros(100)), Limits(max_bytes=400)),
    ):
        with pytest.raises(WireError):
            decode(data, limits)
    assert decode(encode("x" * 600)) == "x" * 497 + "..."
    assert decode(raw(["str", "a\x1b[31m\u202e\ud800\0b\n"])) == "a[31mb\n"


def test_a_tensor_of_a_length_that_did_not_come_takes_no_memory():
    tracemalloc.start()
    with pytest.raises(WireError):
        decode(raw(["tensor", "float64", [2**44], [], False], bytes(64)))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_what_is_too_large_or_unknown_becomes_opaque_and_says_what_it_was():
    loop = []
    loop.append(loop)
    large = (torch.zeros(1).expand(2**40), [0] * 9999, {1 << 99999: 1})
    for value in (object(), {1}, {(1, 2): 3}, float, (one for one in ()), *large):
        came = decode(encode(value))
        assert type(came) is Opaque and came.text == values.describe(value)[:500]
    many = [[0.5] * 100] * 100
    came = decode(encode({"a": 1, "b": loop, "c": torch.ones(2), "d": many, "e": [torch.zeros(1), many], "f": 2}))
    assert [type(part) for part in came.values()] == [int, Opaque, torch.Tensor, Opaque, Opaque, int]
    assert came["d"].text == values.describe(many)
    assert decode(encode(Opaque("a thing"))).text == "a thing"


VALID = encode(
    {
        "a": torch.arange(6.0).reshape(2, 3).T,
        "b": [1, 2.5, None, True, "text", (np.ones(3), np.float32(1))],
        "c": Transformer(ModelConfig(1, 1, 4, 2, 5, 3)),
        "d": torch.zeros(3, device="meta"),
    }
)


def test_damaged_messages_are_values_or_refused_and_nothing_else():
    """Every bit that is flipped in a valid message, bytes that are replaced, cut or doubled, and noise."""
    draw = random.Random(0)
    n_header = len(MAGIC) + 4 + int.from_bytes(VALID[4:8], "big")
    with at_most(seconds=15):
        for trial in range(4000):
            data = bytearray(VALID)
            for _ in range(1 + trial % 3):
                place = draw.randrange(n_header if trial % 4 else len(data))
                match draw.randrange(4):
                    case 0:
                        data[place] ^= 1 << draw.randrange(8)
                    case 1:
                        data[place] = draw.choice(b'0123456789[]",-e{}ntf')
                    case 2:
                        del data[place : place + draw.randrange(1, 9)]
                    case 3:
                        data[place:place] = data[place : place + draw.randrange(1, 40)]
            with contextlib.suppress(WireError):
                decode(bytes(data))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), st.booleans())
def test_noise_is_refused(noise, as_header):
    with pytest.raises(WireError):
        decode(raw(noise) if as_header else MAGIC[: len(noise) % 5] + noise)


def test_numbers_that_torch_does_not_compare_are_judged_all_the_same():
    """A whole number beyond all floats is wrong; an unsigned tensor is as good as another of whole numbers."""
    exercise = load.find("0.1")
    case = exercise.draw(1)[0]
    for huge in (10**400, -(10**400)):
        outcome = Outcome(decode(encode(huge)))
        assert judge(exercise, case, 1, outcome, outcome).differs
    exercise = load.find("11.5")
    case = exercise.draw(1)[0]
    right = exercise.reference(**case.inputs)
    for value, passed in ((right.to(torch.uint64), True), ((right + 1).to(torch.uint64), False)):
        outcome = Outcome(decode(encode(value)))
        assert judge(exercise, case, 1, outcome, outcome).passed is passed


def test_urgent_bytes_are_read_in_their_order():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames = Frames(ours)
        try:
            theirs.send(b"!", socket.MSG_OOB)
        except OSError:
            pytest.skip("this machine has no urgent bytes between processes")
        send_frame(theirs, b"a frame")
        with pytest.raises(WireError):  # its length begins with the urgent byte
            frames.next(100, monotonic() + 5)


def test_frames_that_come_together_or_in_parts_are_told_apart():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames = Frames(ours)
        send_frame(theirs, b"one")
        send_frame(theirs, b"")
        theirs.sendall((200_000).to_bytes(4, "big") + b"x" * 50_000)
        assert [frames.next(10), frames.next(10)] == [b"one", b""]
        with pytest.raises(TimeIsUp):
            frames.next(1 << 20, deadline=monotonic() + 0.05)


def test_a_frame_that_is_too_long_or_breaks_off_is_refused():
    for sent in (b"\0\0\0\x0b" + bytes(11), b"\0\0", b"\0\0\0\x05abc"):
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                theirs.sendall(sent)
            with pytest.raises(WireError):
                Frames(ours).next(10)


def test_frames_of_a_file_are_what_was_written():
    payloads = [b"one", b"", b"three"]
    assert list(frames_of(b"".join(map(framed, payloads)))) == payloads

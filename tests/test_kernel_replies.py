"""An answer that arrives just before a send, on the socket that somebody waits on."""

from __future__ import annotations

import asyncio
import time

import pytest
import zmq
import zmq.asyncio
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.session import Session

from tools import kernel_replies


class Mended(AsyncZMQSocketChannel):
    """The same channel with the plugin's change, which pytest then keeps out of the other tests."""


kernel_replies.mend(Mended)


async def answer_is_seen(channel_class: type, seconds: float) -> bool:
    """Wait for an answer; let it come while the loop is busy, then send. Does the waiter wake within `seconds`?"""
    context = zmq.asyncio.Context()
    session = Session(key=b"key")
    with (
        zmq.Context.shadow(context).socket(zmq.ROUTER) as kernel,
        context.socket(zmq.DEALER) as client,
    ):
        client.setsockopt(zmq.IDENTITY, b"client")
        client.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
        channel = channel_class(client, session, asyncio.get_running_loop())
        channel.send(session.msg("execute_request"))
        kernel.recv_multipart()
        waiter = asyncio.ensure_future(channel.get_msg(timeout=60))
        await asyncio.sleep(0.05)
        session.send(kernel, "execute_reply", ident=b"client")
        time.sleep(0.05)  # the loop does not see the answer arrive
        channel.send(session.msg("comm_msg"))
        done, _ = await asyncio.wait([waiter], timeout=seconds)
        if not done:
            waiter.cancel()
        return bool(done) and waiter.result()["header"]["msg_type"] == "execute_reply"


@pytest.mark.parametrize("attempt", range(10))
def test_the_answer_is_seen(attempt):
    assert asyncio.run(answer_is_seen(Mended, seconds=10))


def test_without_the_plugin_it_is_lost():
    """When this fails, jupyter_client or pyzmq has mended it: remove the plugin."""
    assert not asyncio.run(answer_is_seen(AsyncZMQSocketChannel, seconds=0.5))

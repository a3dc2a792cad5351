"""A pytest plugin for nbmake that loses no answer of a kernel: `pytest -p tools.kernel_replies --nbmake NOTEBOOKS`.

A cell that shows an ipywidgets `Output` makes nbclient send a message to the kernel while it waits for the kernel's
answer on the same socket. jupyter_client sends through a second object for that socket, and the send may use up the
one signal that the answer has arrived: the wait then lasts until the cell's time is up, beside an idle kernel. A
learner's browser is not affected. Seen with jupyter_client 8.10, pyzmq 27.3; tests/test_kernel_replies.py shows it.
"""

import zmq
from jupyter_client.channels import AsyncZMQSocketChannel


def mend(channel_class: type = AsyncZMQSocketChannel) -> None:
    """Make the channels look for messages again after each send, so that whoever waits is woken."""
    send = channel_class.send

    def send_then_look(channel: AsyncZMQSocketChannel, message: dict) -> None:
        send(channel, message)
        channel.socket.get(zmq.EVENTS)  # pyzmq schedules what it finds

    channel_class.send = send_then_look


def pytest_configure() -> None:
    """Called by pytest, in every process of pytest-xdist too."""
    mend()

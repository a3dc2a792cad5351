"""Code that talks to the network. A listener of the test must hear nothing."""

from tests.hostile.entry import gain

SHUT = frozenset({"namespaces", "landlock"})
NO_NET = frozenset({"namespaces"})
ENTRIES = [
    gain(
        "net_tcp",
        "connects to a port of this machine",
        """
        import socket
        with socket.create_connection(('127.0.0.1', @TCP@), 1) as s: s.sendall(b'@TOKEN@')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "net_tcp6",
        "connects over IPv6",
        """
        import socket
        with socket.create_connection(('::1', @TCP@), 1) as s: s.sendall(b'@TOKEN@')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "net_udp",
        "sends a datagram",
        """
        import socket
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'@TOKEN@', ('127.0.0.1', @UDP@))
        return True
        """,
        needs=NO_NET,
    ),
    gain(
        "net_abstract",
        "connects to an abstract Unix socket",
        """
        import socket
        s = socket.socket(socket.AF_UNIX); s.connect('\\0@SOCKET@'); s.sendall(b'@TOKEN@')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "net_http",
        "fetches a page",
        """
        import urllib.request
        urllib.request.urlopen('http://127.0.0.1:@TCP@/@TOKEN@', timeout=1)
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "net_curl",
        "asks a program to fetch a page",
        """
        import subprocess
        return subprocess.run(['/bin/bash', '-c', 'exec 3<>/dev/tcp/127.0.0.1/@TCP@ && echo @TOKEN@ >&3'], timeout=2, check=True) is not None
        """,
        needs=SHUT,
    ),
    gain(
        "net_dns",
        "asks the resolver for a name",
        """
        import socket
        socket.setdefaulttimeout(1)
        return bool(socket.getaddrinfo('example.org', 80))
        """,
        needs=NO_NET,
    ),
    gain(
        "net_dns_raw",
        "sends a query to the test's own port",
        """
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.connect(('127.0.0.1', @UDP@)); s.send(b'\\0' * 12)
        return True
        """,
        needs=NO_NET,
    ),
    gain(
        "net_raw",
        "opens a raw socket",
        """
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); s.sendto(b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0', ('127.0.0.1', 0))
        return True
        """,
        needs=NO_NET,
    ),
    gain(
        "net_packet",
        "listens to every packet",
        """
        import socket
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.settimeout(0.3)
        return bool(s.recv(1000))
        """,
        needs=NO_NET,
    ),
    gain(
        "net_listen",
        "waits for a partner on all addresses",
        """
        import socket
        s = socket.create_server(('0.0.0.0', 0)); port = s.getsockname()[1]
        c = socket.create_connection(('127.0.0.1', @TCP@), 1)
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "net_netlink",
        "reads the machine's addresses and finds more than the loopback",
        """
        import socket
        return len(socket.if_nameindex()) > 1
        """,
        needs=NO_NET,
    ),
    gain(
        "net_docker",
        "talks to the engine that runs containers",
        """
        import socket
        s = socket.socket(socket.AF_UNIX); s.settimeout(1); s.connect('/var/run/docker.sock')
        return True
        """,
        needs=SHUT,
    ),
    gain(
        "net_dbus",
        "talks to the system's bus",
        """
        import socket
        s = socket.socket(socket.AF_UNIX); s.settimeout(1); s.connect('/run/dbus/system_bus_socket')
        return True
        """,
        needs=SHUT,
    ),
]

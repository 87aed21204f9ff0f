#!/usr/bin/env python3
"""Slow clients (slowloris): each sends its request's header byte by byte for ever, and comes back when it is cut off.

    python3 bench/slow_clients.py PORT COUNT

Says "under way" when all are connected. One thread and no more work than that, at the lowest priority: such clients come from
elsewhere, and what they cost themselves is not to be measured.
"""
import collections
import os
import resource
import selectors
import socket
import sys
import time

BEGIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
PAUSE_S = 5  # between the bytes of one client


def connect(port, selector):
    client = socket.create_connection(("127.0.0.1", port))
    client.setblocking(False)
    client.send(BEGIN)
    selector.register(client, selectors.EVENT_READ)
    return client


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    selector = selectors.DefaultSelector()
    clients = collections.deque(connect(port, selector) for _ in range(count))  # who sends next is at the left
    print("under way", flush=True)
    turn = time.monotonic()
    while True:
        turn += PAUSE_S / count
        for key, _ in selector.select(max(0, turn - time.monotonic())):  # an answer, or the end: it was cut off
            selector.unregister(key.fileobj)
            key.fileobj.close()
        client = clients.popleft()
        try:
            if client.fileno() < 0:
                client = connect(port, selector)
            else:
                client.send(b"a")
        except OSError:
            client.close()
        clients.append(client)


if __name__ == "__main__":
    main()

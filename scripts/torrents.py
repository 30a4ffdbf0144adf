"""Torrents of one file, and a tracker: what BitTorrent clients need before they find each other.

A torrent holds the SHA-1 of each piece, so whoever makes one must have read the whole file. A tracker tells everyone who asks
of everyone who has asked before.
"""

import hashlib
import socketserver
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

# How often clients ask again, in seconds: soon, since the first of a crowd is told of nobody.
ASK_AGAIN_SECONDS = 2


def bencoded(value):
    """Source: BEP 3."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, (str, bytes)):
        octets = value.encode() if isinstance(value, str) else value
        return b"%d:%s" % (len(octets), octets)
    if isinstance(value, list):
        return b"l%se" % b"".join(map(bencoded, value))
    return b"d%se" % b"".join(bencoded(name) + bencoded(value[name]) for name in sorted(value))


def pieces(path, piece_bytes):
    """The hashes of a file's pieces, one after the other."""
    with open(path, "rb") as file:
        return b"".join(hashlib.sha1(piece).digest() for piece in iter(lambda: file.read(piece_bytes), b""))


def write_torrent(path, name, size, piece_bytes, hashes, tracker="", web_seeds=()):
    """Writes a torrent of one file; web seeds are URLs of that very file (BEP 19)."""
    info = {"name": name, "length": size, "piece length": piece_bytes, "pieces": hashes}
    torrent = {"info": info} | ({"announce": tracker} if tracker else {}) | ({"url-list": list(web_seeds)} if web_seeds else {})
    Path(path).write_bytes(bencoded(torrent))
    return Path(path)


class Tracker(socketserver.ThreadingTCPServer):
    """Runs on a socket that listens already, until `close`. Source: BEP 3 and BEP 23."""

    daemon_threads = True

    def __init__(self, listening):
        super().__init__(listening.getsockname(), Announce, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        # The address of each that asked, and how many bytes it lacks.
        self.peers, self.lock = {}, threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def lacks(self, address):
        """How many bytes the client at an address lacks, by its last word; None if it has said nothing."""
        with self.lock:
            return next((lacks for peer, lacks in self.peers.items() if peer[0] == address), None)

    def close(self):
        self.shutdown()
        self.server_close()


class Announce(socketserver.StreamRequestHandler):
    """One question of a client."""

    def handle(self):
        words = self.rfile.readline(4096).decode("latin-1").split(" ")
        asked = parse_qs(urlsplit(words[1] if len(words) > 1 else "").query, encoding="latin-1")
        address = (self.client_address[0], int(asked.get("port", ["0"])[0]))
        with self.server.lock:
            others = [peer for peer in self.server.peers if peer != address]
            self.server.peers[address] = int(asked.get("left", ["0"])[0])
            if asked.get("event") == ["stopped"]:
                del self.server.peers[address]
        compact = b"".join(bytes(map(int, host.split("."))) + port.to_bytes(2, "big") for host, port in others)
        answer = bencoded({"interval": ASK_AGAIN_SECONDS, "min interval": ASK_AGAIN_SECONDS, "peers": compact})
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        self.wfile.write(head.encode() + answer)

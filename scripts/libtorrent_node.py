"""One node that shares a file by libtorrent. It says "ready" when it listens, begins at a line on its standard input, says
"done" when it has all, and goes on to share until it is ended. Runs where the package libtorrent is; called by contestants.py."""

import argparse
import sys
import time

import libtorrent

MIB = 1 << 20
# Everyone is told of everyone, and nobody else is to be found. Plain TCP, since uTP and encryption cost processor time, and uTP
# gives way to other traffic.
SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "connection_speed": 500,
    "smooth_connects": False,
    "min_reconnect_time": 1,
    "ssrf_mitigation": False,
    "close_redundant_connections": True,
    "alert_mask": sum(getattr(libtorrent.alert.category_t, f"{name}_notification") for name in ("status", "storage", "error")),
}
# A fast line: slots for all, and long queues.
PULL = {
    "unchoke_slots_limit": -1,
    "max_out_request_queue": 1500,
    "max_allowed_in_request_queue": 2000,
    "send_buffer_watermark": 3 * MIB,
    "send_buffer_watermark_factor": 150,
    "max_queued_disk_bytes": 256 * MIB,
}
# A crowd on slow lines: what others do not have yet goes to few of them at a time, so that these have something for the others,
# and web seeds are asked for single pieces. Of what was tried with eight nodes and 64 MiB this was best: with slots for all, one web seed
# took twice as long, and with longer requests to web seeds all together took four fifths more of the time and of the origin.
CROWD = {
    "unchoke_slots_limit": 3,
    "max_out_request_queue": 32,
    "request_queue_time": 1,
    "urlseed_max_request_bytes": MIB // 4,
    "urlseed_pipeline_size": 2,
}


def parse_peer(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def alerts(session):
    """What has happened within the last 20 ms; errors are told."""
    session.wait_for_alert(20)
    happened = session.pop_alerts()
    for alert in happened:
        if alert.category() & libtorrent.alert.category_t.error_notification:
            print(alert.message(), file=sys.stderr, flush=True)
    return happened


def main():
    parser = argparse.ArgumentParser(description="Shares one file.")
    parser.add_argument("torrent")
    parser.add_argument("folder")
    parser.add_argument("listen", help="HOST:PORT")
    parser.add_argument("--peer", action="append", default=[], type=parse_peer, metavar="HOST:PORT")
    parser.add_argument("--web-seed", action="append", default=[], metavar="URL")
    parser.add_argument("--call-after", type=float, default=0, metavar="SECONDS", help="when the peers are there, if they begin with it")
    parser.add_argument("--crowd", action="store_true", help="many want it, and lines are slow")
    parser.add_argument("--holds", action="store_true", help="the file is there already")
    parser.add_argument("--super", action="store_true", help="shares nothing before it has all, then each piece once")
    arguments = parser.parse_args()

    session = libtorrent.session(SETTINGS | (CROWD if arguments.crowd else PULL) | {"listen_interfaces": arguments.listen})
    wanted = libtorrent.add_torrent_params()
    wanted.ti = libtorrent.torrent_info(arguments.torrent)
    wanted.save_path = arguments.folder
    wanted.url_seeds = arguments.web_seed
    wanted.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    if arguments.holds:
        wanted.flags |= libtorrent.torrent_flags.seed_mode
    print("ready", flush=True)
    if not arguments.holds:
        sys.stdin.readline()
    handle = session.add_torrent(wanted)
    time.sleep(arguments.call_after)
    for peer in arguments.peer:
        handle.connect_peer(peer)
    while not handle.status().is_seeding:
        alerts(session)
    if arguments.super:
        handle.set_flags(libtorrent.torrent_flags.super_seeding)
    # It calls a file complete when its last bytes still wait to be written.
    if not arguments.holds:
        handle.flush_cache()
        while not any(isinstance(alert, libtorrent.cache_flushed_alert) for alert in alerts(session)):
            pass
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

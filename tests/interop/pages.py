"""Pages in a browser call byname: `pages.py SERVER`, where SERVER is the program to start and stop.

The pages do the calling: `frames_page.html` by frames, `streams_page.html` by what a browser has for streams over HTTP.
This serves them, to Chromium without a window, and takes what came of it.
"""

import http.server
import json
import os
import queue
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tally import Tally

PAGES = {f"/{name}": Path(__file__).with_name(name).read_bytes() for name in ["frames_page.html", "streams_page.html"]}
# How long a page may take, from the start of the browser.
PATIENCE = 120


class Pages(http.server.BaseHTTPRequestHandler):
    """The pages, and what they report."""

    def do_GET(self):
        page = PAGES.get(self.path.partition("?")[0])
        self.answer(404 if page is None else 200, page or b"")

    def do_POST(self):
        self.answer(204, b"", self.rfile.read(int(self.headers["content-length"])))

    def answer(self, status, body, report=None):
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if report is not None:
            self.server.reports.put(json.loads(report))

    def log_message(self, *_):
        pass


class PageServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Pages)
        self.reports = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def browse(self, host, page, query):
        """What a page reports that a browser loads from that host, and what the browser logged."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryFile() as log:
            browser = subprocess.Popen(
                [
                    "chromium",
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--no-first-run",
                    "--no-proxy-server",
                    f"--user-data-dir={profile}",
                    # Any: nobody asks it anything, but without one it ends once the page is loaded.
                    "--remote-debugging-port=0",
                    f"http://{host}:{self.server_port}/{page}?{query}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            threading.Thread(target=lambda: self.reports.put(browser.wait()), daemon=True).start()
            try:
                report = self.reports.get(timeout=PATIENCE)
            except queue.Empty:
                report = f"nothing in {PATIENCE} s"
            ended = browser.poll() is not None
            try:
                os.killpg(browser.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            log.seek(0)
            logged = log.read().decode(errors="replace")
            if not isinstance(report, dict):
                said = f"ended with {report}" if ended else f"reported {report}"
                raise AssertionError(f"chromium did not start, or its page did not: it {said}\n{logged}")
            # The thread above puts how it ended behind the report.
            self.reports.get(timeout=PATIENCE)
            return report


class Tap(socketserver.ThreadingTCPServer):
    """Passes on what comes, both ways, and keeps the first line of what is answered on each connection."""

    daemon_threads = True

    def __init__(self, service):
        super().__init__(("127.0.0.1", 0), PassOn)
        self.service, self.answers = service, []
        self.address = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class PassOn(socketserver.BaseRequestHandler):
    def handle(self):
        host, port = self.server.service.split(":")
        with socket.create_connection((host, int(port))) as service:
            threading.Thread(target=copy, args=(self.request, service), daemon=True).start()
            copy(service, self.request, self.server.answers)


def copy(source, target, answers=None):
    first = True
    try:
        while some := source.recv(1 << 16):
            if answers is not None and first:
                answers.append(some.split(b"\r\n")[0].decode())
            first = False
            target.sendall(some)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # Either side may close by RST.


def main(server):
    tally = Tally()
    pages = PageServer()
    # An origin, and a pattern. Chromium takes every name below `localhost` for this machine's.
    allowed = [f"http://127.0.0.1:{pages.server_port}", f"http://*.localhost:{pages.server_port}"]
    with subprocess.Popen([server, *allowed], stdout=subprocess.PIPE, text=True) as running:
        try:
            service = running.stdout.readline().strip()
            for page, host, query, answered in [
                ("frames_page.html", "127.0.0.1", "", "HTTP/1.1 101 Switching Protocols"),
                ("frames_page.html", "localhost", "&foreign", "HTTP/1.1 403 Forbidden"),
                ("frames_page.html", "app.localhost", "", "HTTP/1.1 101 Switching Protocols"),
                ("frames_page.html", "a.b.localhost", "&foreign", "HTTP/1.1 403 Forbidden"),
                ("streams_page.html", "127.0.0.1", "", None),
                ("streams_page.html", "app.localhost", "", None),
                ("streams_page.html", "a.b.localhost", "&foreign", "HTTP/1.1 403 Forbidden"),
                ("streams_page.html", "localhost", "&foreign", "HTTP/1.1 403 Forbidden"),
            ]:
                tap = Tap(service)
                with tally.test(f"{page} from {host}: a browser loads it"):
                    report = pages.browse(host, page, f"service={tap.address}{query}")
                    assert report, "it had no tests"
                    for name, failed in report.items():
                        with tally.test(f"{page} from {host}: {name}"):
                            assert failed is None, failed
                if answered:
                    with tally.test(f"{page} from {host}: every connection was answered by {answered}"):
                        assert set(tap.answers) == {answered}, tap.answers
        finally:
            running.kill()
    tally.exit()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Folds the Events that are posted to it."""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat

from consumer import Consumer, Unreadable, readable, run

# Larger than any object of Kubernetes, and enough for a batch of usual ones.
MAX_BODY = 32 * 1024 * 1024


def read(headers: dict[str, str], body: bytes) -> list[BaseCloudEvent]:
    """The Events of a request in binary, structured or batched mode."""
    if not headers.get("content-type", "").lower().startswith("application/cloudevents-batch"):
        return [readable("the request", lambda: from_http_event(HTTPMessage(headers, body)))]
    # The SDK knows no batches.
    try:
        elements = [json.dumps(element) for element in json.loads(body)]
    except (ValueError, TypeError) as error:
        raise Unreadable(f"the request is no batch of Events: {error}") from error
    return [readable("an element", lambda: JSONFormat().read(None, element)) for element in elements]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A connection on which nothing comes is closed, so that the end waits no longer than that.
    timeout = 5

    def do_POST(self) -> None:
        consumer: Consumer = self.server.consumer
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            # What follows cannot be told from a request.
            self.close_connection = True
            return self.answer(413 if length.isdigit() else 411)
        body = self.rfile.read(int(length))
        if consumer.is_done:
            # It is sent again, when somebody is here.
            self.close_connection = True
            return self.answer(503)
        try:
            consumer.take(read({name.lower(): value for name, value in self.headers.items()}, body))
        except Unreadable as error:
            # It will not be better the next time.
            return self.answer(400, str(error))
        except Exception as error:
            self.log_error("unable to take in what came: %r", error)
            return self.answer(503)
        # A status of 2xx is the acknowledgement, so this is the first moment for it.
        self.close_connection |= consumer.is_done
        self.answer(204)

    def answer(self, status: int, words: str = "") -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", str(len(words.encode())))
        self.end_headers()
        self.wfile.write(words.encode())

    def log_request(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:8080")
    consumer = Consumer(parser)
    host, _, port = consumer.options.address.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.consumer = consumer
    # Requests that are under way are answered before the end.
    server.daemon_threads = False
    server.timeout = 1
    while not consumer.is_done:
        server.handle_request()
    server.server_close()
    consumer.finish()


if __name__ == "__main__":
    run(main)

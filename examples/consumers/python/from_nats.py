"""Folds the Events of a stream of NATS JetStream."""

import argparse
import asyncio
import sys

import nats
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from consumer import BATCH, Consumer, readable, run, server


def read(message: Msg) -> BaseCloudEvent:
    place = f"stream {message.metadata.stream}, message {message.metadata.sequence.stream}"
    # The SDK has no binding for NATS, whose headers are those of HTTP.
    return readable(place, lambda: from_http_event(HTTPMessage(message.headers or {}, message.data)))


async def complain(error: Exception) -> None:
    print(f"waiting for NATS: {error!r}", file=sys.stderr)


async def consume(consumer: Consumer) -> None:
    connection = await nats.connect(consumer.options.server, error_cb=complain)
    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=BATCH)
    # The server keeps under this name how far we are.
    subscription = await connection.jetstream().pull_subscribe(
        "", durable=consumer.options.durable, stream=consumer.options.stream, config=config
    )
    while not consumer.is_done:
        try:
            messages = await subscription.fetch(consumer.remaining, timeout=1)
        except asyncio.TimeoutError:
            # Not always the client's own kind of it.
            continue
        consumer.take([read(message) for message in messages])
        for message in messages:
            await message.ack()
    # Not before the acknowledgements are sent.
    await connection.drain()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    server(parser, "NATS_URL", "nats://127.0.0.1:4222")
    parser.add_argument("--stream", default="todos")
    parser.add_argument("--durable", default="todos-example")
    consumer = Consumer(parser)
    asyncio.run(consume(consumer))
    consumer.finish()


if __name__ == "__main__":
    run(main)

"""Folds the Events of a queue of RabbitMQ."""

import argparse

import pika
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.rabbitmq import RabbitMQMessage, from_rabbitmq_event

from consumer import BATCH, Consumer, readable, run, server


def read(queue: str, properties: pika.BasicProperties, body: bytes) -> BaseCloudEvent:
    message = RabbitMQMessage(properties.headers or {}, properties.content_type, body)
    return readable(f"queue {queue}, message {properties.message_id}", lambda: from_rabbitmq_event(message))


def consume(consumer: Consumer) -> None:
    queue = consumer.options.queue
    connection = pika.BlockingConnection(pika.URLParameters(consumer.options.server))
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, consumer.options.exchange, routing_key="#")
    # How many wait here unacknowledged.
    channel.basic_qos(prefetch_count=BATCH)
    # Alone: two consumers of one queue have Events of one object at the same time. The fold copes, an application may not.
    for method, properties, body in channel.consume(queue, exclusive=True, inactivity_timeout=1):
        if method is not None:
            consumer.take([read(queue, properties, body)])
            channel.basic_ack(method.delivery_tag)
        if consumer.is_done:
            break
    # What is here and was not taken goes back into the queue.
    channel.cancel()
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    server(parser, "AMQP_URL", "amqp://guest:guest@127.0.0.1:5672")
    parser.add_argument("--queue", default="todos-example", help="made if it is not there (default: %(default)s)")
    parser.add_argument("--exchange", default="todos", help="of which the queue gets everything (default: %(default)s)")
    consumer = Consumer(parser)
    consume(consumer)
    consumer.finish()


if __name__ == "__main__":
    run(main)

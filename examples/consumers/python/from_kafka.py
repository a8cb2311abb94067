"""Folds the Events of a topic of Kafka."""

import argparse
import sys

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaException, Message

from consumer import Consumer, readable, run, server


def read(record: Message) -> BaseCloudEvent:
    place = f"topic {record.topic()}, partition {record.partition()}, offset {record.offset()}"
    headers = {name: value for name, value in record.headers() or [] if value is not None}
    return readable(place, lambda: from_kafka_event(KafkaMessage(headers, record.key(), record.value())))


def consume(consumer: Consumer, kafka: KafkaConsumer) -> None:
    while not consumer.is_done:
        records = []
        for record in kafka.consume(consumer.remaining, timeout=1.0):
            if record.error() is None:
                records.append(record)
            elif record.error().fatal():
                raise KafkaException(record.error())
            else:
                print(f"waiting for Kafka: {record.error()}", file=sys.stderr)
        # A tombstone says nothing that the Event before it has not said.
        consumer.take([read(record) for record in records if record.value() is not None])
        if records:
            try:
                kafka.commit(asynchronous=False)
            except KafkaException as error:
                # The partition went to somebody else meanwhile, most likely. Who has it reads this again.
                print(f"not committed: {error}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    server(parser, "KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--topic", default="todos")
    parser.add_argument("--group", default="todos-example")
    consumer = Consumer(parser)
    kafka = KafkaConsumer({
        "bootstrap.servers": consumer.options.server,
        "group.id": consumer.options.group,
        # A group that is new begins with the first record there is.
        "auto.offset.reset": "earliest",
        # Committed here, after the fold.
        "enable.auto.commit": False,
        # What waits in the client, in KiB; the default is 64 MiB for each partition.
        "queued.max.messages.kbytes": 16384,
    })
    kafka.subscribe([consumer.options.topic])
    try:
        consume(consumer, kafka)
    finally:
        kafka.close()
    consumer.finish()


if __name__ == "__main__":
    run(main)

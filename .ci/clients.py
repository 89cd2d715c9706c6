"""Unmodified Kafka clients against `broker dev` and `broker start`; run by clients.sh.

Every check is a sentence. The last line printed says how many passed and how many failed.
"""

import argparse
import array
import collections
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

import confluent_kafka
import kafka
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, OffsetSpec
from confluent_kafka.admin import NewTopic as ConfluentTopic
from kafka.admin import NewTopic as PythonTopic

BROKER = os.environ["BROKER"]
KAFKA_LIBS = os.environ.get("KAFKA_LIBS")
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
EPOCH_MS = 1_700_000_000_000


# ---------------------------------------------------------------- checks

class Failed(Exception):
    """A check did not hold."""


class Tally:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0

    def check(self, sentence, proof, *args):
        began = time.monotonic()
        try:
            note = proof(*args)
            self.passed += 1
            verdict = "ok  "
        except Exception as error:  # whatever a client throws is a finding
            self.failed += 1
            verdict = "FAIL"
            note = f"{type(error).__name__}: {error}"
            if not isinstance(error, Failed):
                traceback.print_exc()
        spent = time.monotonic() - began
        print(f"{verdict} {sentence} ({spent:.1f} s{', ' + str(note) if note else ''})", flush=True)
        return verdict == "ok  "

    def skip(self, sentence, why):
        self.skipped += 1
        print(f"skip {sentence} ({why})", flush=True)


TALLY = Tally()


def expect(holds, *facts):
    if not holds:
        raise Failed(" ".join(str(fact) for fact in facts))


def until(seconds, what, holds):
    deadline = time.monotonic() + seconds
    while True:
        last = holds()
        if last is True:
            return
        if time.monotonic() > deadline:
            raise Failed(f"not in {seconds} s: {what}; last seen: {last}")
        time.sleep(0.05)


def run(args, stdin=None, timeout=60, ok=True):
    done = subprocess.run(args, input=stdin, capture_output=True, timeout=timeout)
    if ok and done.returncode != 0:
        raise Failed(f"{args[0]} exits {done.returncode}: {done.stderr.decode(errors='replace')[-600:]}")
    return done


# ---------------------------------------------------------------- clusters

def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Process:
    """One process of ours, its output in files."""

    def __init__(self, name, args, folder):
        self.name, self.folder = name, folder
        self.out = open(folder / f"{name}.out", "ab")
        self.err = open(folder / f"{name}.err", "ab")
        self.began = time.monotonic()
        self.process = subprocess.Popen(args, stdout=self.out, stderr=self.err, stdin=subprocess.DEVNULL)

    def wait_for(self, text, seconds=30, times=1):
        def there():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}: {self.last_error()}")
            said = (self.folder / f"{self.name}.out").read_text()
            return said.count(text) >= times or said[-200:]
        until(seconds, f"{self.name} says {text!r}", there)

    def last_error(self):
        return (self.folder / f"{self.name}.err").read_text()[-800:]

    def end(self, how=signal.SIGTERM, seconds=45):
        if how is not None and self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self.name} does not end after {seconds} s: {self.last_error()}") from None

    def rss_mib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return round(int(line.split()[1]) / 1024, 1)
        return 0


class Dev:
    """`broker dev`: three brokers and a controller in one process."""

    name = "dev"

    def __init__(self, folder):
        self.folder = folder
        # Three ports in a row; the kernel hands out the lower half of its range last.
        base = next(port for port in range(19092, 30000, 10) if all(is_free(port + more) for more in range(3)))
        self.ports = [base, base + 1, base + 2]
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.data = folder / "dev-data"

    def start(self):
        args = [BROKER, "dev", "--port", str(self.ports[0]), "--dir", str(self.data)]
        for override in ["log.segment.bytes=1048576", "log.index.interval.bytes=512"]:
            args += ["--override", override]
        self.process = Process("dev", [*args, "--log", "warn"], self.folder)
        self.process.wait_for("are ready after")
        said = (self.folder / "dev.out").read_text()
        return re.search(r"ready after \d+ ms", said)[0] + f", {self.process.rss_mib()} MiB"

    def stop(self):
        code = self.process.end()
        expect(code == 0, "exit", code, self.process.last_error())

    def kill(self):
        self.process.process.kill()

    def broker_dirs(self):
        return [self.data / f"broker-{id}" for id in (1, 2, 3)]

    def metadata_dirs(self):
        return [self.data / "controller-3001", *self.broker_dirs()]

    def rss(self):
        return f"{self.process.rss_mib()} MiB in one process"


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


class Processes:
    """Three `broker start` processes, each broker and controller."""

    name = "processes"

    def __init__(self, folder, overrides=(), inside=None):
        self.folder = folder
        self.inside = inside or {}  # by node: what its process is started with, to see another file system
        ports = free_ports(9)
        self.ports, self.controller_ports, self.metrics_ports = ports[:3], ports[3:6], ports[6:]
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        voters = ",".join(f"{id}@127.0.0.1:{port}" for id, port in zip((1, 2, 3), self.controller_ports))
        self.cluster_id = run([BROKER, "random-uuid"]).stdout.decode().strip()
        self.processes = {}
        for id, port, controller in zip((1, 2, 3), self.ports, self.controller_ports):
            lines = [
                f"node.id={id}",
                "process.roles=broker,controller",
                f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
                "controller.listener.names=CONTROLLER",
                f"controller.quorum.voters={voters}",
                f"log.dirs={self.dir(id)}",
                "default.replication.factor=3",
                "min.insync.replicas=2",
                "log.segment.bytes=1048576",
                *overrides,
            ]
            self.properties(id).write_text("\n".join(lines) + "\n")
            run([*self.inside.get(id, []), BROKER, "format", "-t", self.cluster_id, "-c", str(self.properties(id))])

    def dir(self, id):
        return self.folder / f"{id}"

    def properties(self, id):
        return self.folder / f"{id}.properties"

    def launch(self, id):
        args = [*self.inside.get(id, []), BROKER, "start", "-c", str(self.properties(id)), "--log", os.environ.get("CLIENTS_LOG", "info"),
                "--metrics", f"127.0.0.1:{self.metrics_ports[id - 1]}"]
        self.processes[id] = Process(f"broker-{id}", args, self.folder)

    def start(self):
        began = time.monotonic()
        for id in (1, 2, 3):
            self.launch(id)
        for id in (1, 2, 3):
            self.processes[id].wait_for("is ready after")
        took = time.monotonic() - began
        self.await_isr([])
        return f"all three ready after {took * 1000:.0f} ms, {self.rss()}"

    def restart(self, id):
        lives = self.lives(id)
        self.launch(id)
        self.processes[id].wait_for("is ready after", times=lives + 1)

    def leaders(self, topic):
        seen = AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=10)
        return {p.leader for p in seen.topics[topic].partitions.values()}

    def lives(self, id):
        return (self.folder / f"broker-{id}.out").read_text().count("is ready after")

    def await_isr(self, topics, seconds=60):
        """Until every broker is known and every ISR of these topics full."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})

        def full():
            seen = admin.list_topics(timeout=10)
            partitions = [p for topic in topics for p in seen.topics[topic].partitions.values()]
            short = [(p.id, p.isrs) for p in partitions if len(p.isrs) < 3 or p.leader < 0]
            return (len(seen.brokers) == 3 and not short) or (sorted(seen.brokers), short)

        until(seconds, "every ISR is full", full)

    def stop(self):
        for process in self.processes.values():
            process.process.send_signal(signal.SIGTERM)
        codes = [process.end(None) for process in self.processes.values()]
        expect(codes == [0, 0, 0], "exits", codes, *(one.last_error() for one in self.processes.values()))

    def kill(self):
        for process in self.processes.values():
            if process.process.poll() is None:
                process.process.kill()

    def broker_dirs(self):
        return [self.dir(id) for id in (1, 2, 3)]

    metadata_dirs = broker_dirs

    def rss(self):
        return " + ".join(str(self.processes[id].rss_mib()) for id in (1, 2, 3)) + " MiB"


# ---------------------------------------------------------------- what is sent

def record(codec, n, none=None):
    """Record n of a codec's run: every sixteenth has no key, every seventeenth of the others no value, every third no header.

    `none` stands in a header without a value; kafka-python has no such.
    """
    key = None if n % 16 == 15 else f"{codec}-{n % 97}".encode()
    value = None if n % 17 == 16 and key else f"{codec}:{n}:".encode() + bytes([n % 251]) * (n % 113)
    headers = [] if n % 3 == 0 else [("trace", str(n).encode()), ("trace", none if n % 2 else b""), ("\u00fc", b"\x00\xff")]
    return key, value, headers, EPOCH_MS + n


def compare(codec, sent, got, none=None):
    """`sent`: partition -> [(offset, n)] as acknowledged; `got`: partition -> [(offset, key, value, headers, time)]."""
    for partition, expected in sent.items():
        seen = got[partition]
        expect(len(seen) == len(expected), codec, "partition", partition, "sent", len(expected), "read", len(seen))
        for (offset, n), (at, key, value, headers, when) in zip(expected, seen):
            wanted = (offset, *record(codec, n, none))
            found = (at, key, value, headers, when)
            expect(found == wanted, codec, "partition", partition, "sent", wanted, "read", found)


# ---------------------------------------------------------------- kcat

def kcat_checks(cluster):
    def lists():
        said = run(["kcat", "-b", cluster.bootstrap, "-L"]).stdout.decode()
        expect(" 3 brokers" in said, said)

    def round_trip():
        lines = "".join(f"k{n}\tvalue {n}\n" for n in range(2000)).encode()
        for index, codec in enumerate(CODECS):
            run(["kcat", "-b", cluster.bootstrap, "-P", "-t", "kcat", "-p", "0", "-K", "\t", "-z", codec, "-H", "a=b",
                 "-X", "acks=all"], stdin=lines)
            first = 2000 * index
            said = run(["kcat", "-b", cluster.bootstrap, "-C", "-t", "kcat", "-p", "0", "-o", str(first), "-c", "2000",
                        "-e", "-q", "-f", "%o\t%k\t%s\t%h\n"], timeout=30).stdout
            wanted = "".join(f"{first + n}\tk{n}\tvalue {n}\ta=b\n" for n in range(2000)).encode()
            expect(said == wanted, codec, said[:200], "...", said[-100:])
        return f"{2000 * len(CODECS)} records"

    def query():
        said = run(["kcat", "-b", cluster.bootstrap, "-Q", "-t", "kcat:0:-1"]).stdout.decode()
        expect(f"offset {2000 * len(CODECS)}" in said, said)

    def idempotent():
        lines = b"".join(b"%d\n" % n for n in range(5000))
        run(["kcat", "-b", cluster.bootstrap, "-P", "-t", "kcat-idempotent", "-p", "0", "-X", "enable.idempotence=true"], stdin=lines)
        said = run(["kcat", "-b", cluster.bootstrap, "-C", "-t", "kcat-idempotent", "-p", "0", "-o", "beginning", "-e", "-q"]).stdout
        expect(said == lines, len(said), "bytes read,", len(lines), "sent")

    TALLY.check(f"{cluster.name}: kcat lists three brokers", lists)
    TALLY.check(f"{cluster.name}: kcat writes to a topic that is created for it and reads the same in every codec", round_trip)
    TALLY.check(f"{cluster.name}: kcat asks for the log end", query)
    TALLY.check(f"{cluster.name}: kcat writes idempotently", idempotent)


# ---------------------------------------------------------------- kafka-python

def kafka_python_checks(cluster, count):
    servers = cluster.bootstrap.split(",")

    def admin():
        client = kafka.KafkaAdminClient(bootstrap_servers=servers)
        client.create_topics([PythonTopic("python", 3, 3), PythonTopic("python-gone", 1, 1)])
        until(5, "both topics are listed", lambda: {"python", "python-gone"} <= set(client.list_topics()))
        described = client.describe_topics(["python"])[0]
        facts = [(len(p["replica_nodes"]), len(p["isr_nodes"])) for p in described["partitions"]]
        expect(facts == [(3, 3)] * 3, described)
        expect(len(client.describe_cluster()["brokers"]) == 3, client.describe_cluster())
        client.delete_topics(["python-gone"])
        until(5, "the deleted topic is gone", lambda: "python-gone" not in client.list_topics())
        client.close()

    def round_trip(codec):
        # What is asked without a codec of its own is not compressed.
        compression = None if codec == "none" else codec
        producer = kafka.KafkaProducer(bootstrap_servers=servers, acks="all", compression_type=compression, linger_ms=5)
        futures = []
        for n in range(count):
            key, value, headers, when = record(codec, n, b"-")
            futures.append(producer.send("python", key=key, value=value, headers=headers, partition=n % 3, timestamp_ms=when))
        producer.flush()
        sent = collections.defaultdict(list)
        for n, future in enumerate(futures):
            at = future.get(30)
            sent[at.partition].append((at.offset, n))
        producer.close()
        consumer = kafka.KafkaConsumer(bootstrap_servers=servers, consumer_timeout_ms=5000)
        partitions = [kafka.TopicPartition("python", index) for index in range(3)]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, sent[partition.partition][0][0])
        got, left = collections.defaultdict(list), count
        for message in consumer:
            got[message.partition].append(
                (message.offset, message.key, message.value, list(message.headers), message.timestamp))
            left -= 1
            if left == 0:
                break
        ends = consumer.end_offsets(partitions)
        expect(all(ends[p] == sent[p.partition][-1][0] + 1 for p in partitions), ends)
        found = consumer.offsets_for_times({partitions[0]: EPOCH_MS})[partitions[0]]
        expect(found is not None and found.offset == 0, "offset of the first time:", found)
        consumer.close()
        compare(codec, sent, got, b"-")
        return f"{count} records"

    TALLY.check(f"{cluster.name}: kafka-python creates, lists, describes and deletes topics", admin)
    for codec in CODECS:
        TALLY.check(f"{cluster.name}: kafka-python reads back what it wrote, {codec}", round_trip, codec)


# ---------------------------------------------------------------- confluent-kafka

def confluent_checks(cluster, count):
    settings = {"bootstrap.servers": cluster.bootstrap}

    def admin():
        client = AdminClient(settings)
        for future in client.create_topics([ConfluentTopic("confluent", 3, 3), ConfluentTopic("confluent-gone", 2, 1)]).values():
            future.result(20)
        for future in client.create_partitions([NewPartitions("confluent-gone", 5)]).values():
            future.result(20)
        until(5, "five partitions", lambda: len(client.list_topics("confluent-gone", 5).topics["confluent-gone"].partitions) == 5)
        resource = ConfigResource(ConfigResource.Type.TOPIC, "confluent")
        configs = client.describe_configs([resource])[resource].result(20)
        expect(configs["cleanup.policy"].value == "delete" and len(configs) > 20, len(configs), "configs")
        for future in client.delete_topics(["confluent-gone"]).values():
            future.result(20)
        described = client.describe_cluster().result(20)
        expect(len(described.nodes) == 3 and described.cluster_id, described)
        for refused, code in [
            (ConfluentTopic("bad name", 1, 1), confluent_kafka.KafkaError.TOPIC_EXCEPTION),
            (ConfluentTopic("confluent", 1, 1), confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS),
            (ConfluentTopic("too-many", 1, 4), confluent_kafka.KafkaError.INVALID_REPLICATION_FACTOR),
            (ConfluentTopic("bad-config", 1, 1, config={"min.insync.replicas": "0"}), confluent_kafka.KafkaError.INVALID_CONFIG),
        ]:
            try:
                client.create_topics([refused])[refused.topic].result(20)
                raise Failed(f"{refused} was created")
            except confluent_kafka.KafkaException as error:
                expect(error.args[0].code() == code, refused, error)

    def round_trip(codec):
        producer = confluent_kafka.Producer({**settings, "acks": "all", "enable.idempotence": True, "linger.ms": 5,
                                             "compression.type": codec, "queue.buffering.max.messages": 200_000})
        sent = collections.defaultdict(list)

        def acknowledged(n):
            def told(error, message):
                expect(error is None, error)
                sent[message.partition()].append((message.offset(), n))
            return told

        for n in range(count):
            key, value, headers, when = record(codec, n)
            producer.produce("confluent", value, key, partition=n % 3, timestamp=when, headers=headers, on_delivery=acknowledged(n))
            if n % 1000 == 0:
                producer.poll(0)
        expect(producer.flush(60) == 0, "not all was delivered")
        got = consume("confluent", {partition: rows[0][0] for partition, rows in sent.items()}, count)
        compare(codec, sent, got)
        return f"{count} records"

    def consume(topic, starts, count):
        consumer = confluent_kafka.Consumer({**settings, "group.id": "unused", "enable.auto.commit": False,
                                             "isolation.level": "read_committed"})
        consumer.assign([confluent_kafka.TopicPartition(topic, partition, offset) for partition, offset in starts.items()])
        got, left, deadline = collections.defaultdict(list), count, time.monotonic() + 60
        while left and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.2):
                expect(message.error() is None, message.error())
                got[message.partition()].append(
                    (message.offset(), message.key(), message.value(), message.headers() or [], message.timestamp()[1]))
                left -= 1
        consumer.close()
        return got

    def offsets():
        client = AdminClient(settings)
        partition = confluent_kafka.TopicPartition("confluent", 0)
        for spec, wanted in [(OffsetSpec.earliest(), 0), (OffsetSpec.for_timestamp(EPOCH_MS + 3), 1)]:
            found = client.list_offsets({partition: spec})[partition].result(20)
            expect(found.offset == wanted, spec, found.offset, "wanted", wanted)
        latest = client.list_offsets({partition: OffsetSpec.latest()})[partition].result(20).offset
        at_most = client.list_offsets({partition: OffsetSpec.max_timestamp()})[partition].result(20)
        last = EPOCH_MS + (count - 1) // 3 * 3
        expect(at_most.timestamp == last, "largest time", at_most.timestamp, "wanted", last)
        low = confluent_kafka.TopicPartition("confluent", 0, 100)
        deleted = client.delete_records([low])[low].result(20)
        expect(deleted.low_watermark == 100, deleted.low_watermark)
        earliest = client.list_offsets({partition: OffsetSpec.earliest()})[partition].result(20).offset
        expect(earliest == 100, "after DeleteRecords the log starts at", earliest)
        return f"log end {latest}"

    TALLY.check(f"{cluster.name}: librdkafka creates, grows, describes, deletes topics and is refused bad ones", admin)
    for codec in CODECS:
        TALLY.check(f"{cluster.name}: librdkafka reads back what it wrote idempotently, {codec}", round_trip, codec)
    TALLY.check(f"{cluster.name}: librdkafka finds offsets by time and deletes records", offsets)


# ---------------------------------------------------------------- Java

TOOLS = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "dump-log": "org.apache.kafka.tools.DumpLogSegments",
    "metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
}


def java(tool, *args, stdin=None, timeout=90):
    quiet = ["-Dlog4j2.level=ERROR", "-Dlog4j2.statusLoggerLevel=OFF"]
    light = ["-Xmx512M", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
    return run(["java", *light, *quiet, "-cp", f"{KAFKA_LIBS}/*", TOOLS[tool], *args], stdin=stdin, timeout=timeout).stdout.decode()


def java_checks(cluster, count):
    servers = ["--bootstrap-server", cluster.bootstrap]

    def topics():
        java("topics", *servers, "--create", "--topic", "java", "--partitions", "2", "--replication-factor", "3",
             "--config", "min.insync.replicas=2")
        expect("java" in java("topics", *servers, "--list").split(), "not listed")
        said = java("topics", *servers, "--describe", "--topic", "java")
        expect("PartitionCount: 2" in said and "ReplicationFactor: 3" in said and "min.insync.replicas=2" in said, said)
        expect(len(re.findall(r"Isr: \d,\d,\d", said)) == 2, said)

    lines = [f"h:{n},i:x\tkey-{n}\tvalue {n} \u00fcml\u00e4ut" for n in range(count)]

    def console(codec):
        first = count * CODECS.index(codec)
        java("console-producer", *servers, "--topic", "console", "--compression-codec", codec,
             "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true",
             "--command-property", "acks=all", stdin=("\n".join(lines) + "\n").encode())
        said = java("console-consumer", *servers, "--topic", "console", "--partition", "0", "--offset", str(first),
                    "--max-messages", str(count), "--timeout-ms", "20000",
                    "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true",
                    "--formatter-property", "print.offset=true")
        wanted = [f"Offset:{first + n}\t{line}" for n, line in enumerate(lines)]
        got = said.splitlines()
        expect(got == wanted, codec, len(got), "lines;", next((pair for pair in zip(got, wanted) if pair[0] != pair[1]), "a short read"))
        return f"{count} records"

    def one_partition():
        java("topics", *servers, "--create", "--topic", "console", "--partitions", "1", "--replication-factor", "3")

    def offsets():
        said = java("get-offsets", *servers, "--topic", "console")
        expect(f"console:0:{count * len(CODECS)}" in said, said)

    def verifiable():
        said = java("verifiable-producer", *servers, "--topic", "java", "--max-messages", "20000", "--acks", "-1")
        expect('"acked":20000' in said and '"sent":20000' in said, said[-300:])

    def quorum():
        said = java("metadata-quorum", *servers, "describe", "--status")
        expect("LeaderId" in said and "CurrentVoters" in said, said)

    def versions():
        said = java("broker-api-versions", *servers)
        expect(said.count("id: ") == 3 and "UNKNOWN" not in said, said[:500])

    TALLY.check(f"{cluster.name}: kafka-topics creates, lists and describes", topics)
    if TALLY.check(f"{cluster.name}: kafka-topics makes the topic of the console tools", one_partition):
        for codec in CODECS:
            TALLY.check(f"{cluster.name}: the console consumer reads what the console producer wrote, {codec}", console, codec)
        TALLY.check(f"{cluster.name}: kafka-get-offsets counts it", offsets)
    TALLY.check(f"{cluster.name}: VerifiableProducer has every record acknowledged", verifiable)
    TALLY.check(f"{cluster.name}: kafka-metadata-quorum describes the quorum", quorum)
    TALLY.check(f"{cluster.name}: kafka-broker-api-versions knows every version", versions)


# ---------------------------------------------------------------- Kafka's own reader of files

def dump_log_checks(cluster):
    """The cluster is stopped."""

    def files(folders, pattern):
        return [str(path) for folder in folders for path in sorted(folder.glob(pattern)) if path.stat().st_size]

    def clean(said):
        for word in ["isvalid: false", "ismatch", "on-consecutive", "out of order", "Exception", "corrupt"]:
            expect(word not in said, word, "in", said[max(0, said.find(word) - 300):][:900])

    def partitions():
        names = [p for p in files(cluster.broker_dirs(), "*-[0-9]*/*.log") if "__cluster_metadata" not in p]
        said = java("dump-log", "--files", ",".join(names))
        clean(said)
        batches = said.count("isvalid: true")
        expect(batches > 100, batches, "batches in", len(names), "segments")
        return f"{batches} batches in {len(names)} segments"

    def codecs():
        # librdkafka compresses with lz4 only for brokers that advertise FindCoordinator, which comes with groups; until
        # then what it was asked to compress with lz4 lies here as it is.
        for topic, wanted in [("python", set(CODECS)), ("console", set(CODECS)), ("confluent", set(CODECS) - {"lz4"})]:
            names = files(cluster.broker_dirs(), f"{topic}-[0-9]*/*.log")
            found = set(re.findall(r"compresscodec: (\w+)", java("dump-log", "--files", ",".join(names))))
            expect(found == wanted, topic, "holds", sorted(found))

    def records():
        names = [p for p in files(cluster.broker_dirs()[:1], "python-[0-9]*/*.log")]
        said = java("dump-log", "--deep-iteration", "--print-data-log", "--files", ",".join(names))
        clean(said)
        expect(said.count("| offset: ") > 100, said[:300])
        return f"{said.count('| offset: ')} records"

    def indexes():
        names = files(cluster.broker_dirs(), "*-[0-9]*/*.index") + files(cluster.broker_dirs(), "*-[0-9]*/*.timeindex")
        said = java("dump-log", "--index-sanity-check", "--files", ",".join(names))
        clean(said)
        passed = said.count("passed sanity check")
        expect(passed == len(names), passed, "passed of", len(names), said[-500:])
        clean(java("dump-log", "--verify-index-only", "--files", ",".join(names)))
        return f"{len(names)} indexes"

    def snapshots():
        names = files(cluster.broker_dirs(), "*-[0-9]*/*.snapshot")
        said = java("dump-log", "--files", ",".join(names))
        clean(said)
        expect("producerId" in said, said[:300])
        return f"{len(names)} snapshots"

    def metadata():
        names = files(cluster.metadata_dirs(), "__cluster_metadata-0/*.log")
        said = java("dump-log", "--cluster-metadata-decoder", "--files", ",".join(names))
        clean(said)
        for kind in ["FEATURE_LEVEL_RECORD", "REGISTER_BROKER_RECORD", "TOPIC_RECORD", "PARTITION_RECORD", "PRODUCER_IDS_RECORD", "LeaderChange"]:
            expect(kind in said, kind, "is missing")
        # Stopped one after the other, they end at different offsets; what they share is the same to the byte.
        contents = sorted((pathlib.Path(name).read_bytes() for name in names), key=len)
        expect(all(contents[-1].startswith(one) for one in contents), "the logs differ")
        return f"{len(names)} logs, the longest of {len(contents[-1])} bytes"

    TALLY.check(f"{cluster.name}: kafka-dump-log reads our segments", partitions)
    TALLY.check(f"{cluster.name}: kafka-dump-log finds every codec that clients used", codecs)
    TALLY.check(f"{cluster.name}: kafka-dump-log reads every record", records)
    TALLY.check(f"{cluster.name}: kafka-dump-log finds our indexes right", indexes)
    TALLY.check(f"{cluster.name}: kafka-dump-log reads our producer snapshots", snapshots)
    TALLY.check(f"{cluster.name}: kafka-dump-log decodes our metadata", metadata)


# ---------------------------------------------------------------- killed brokers

class Flood:
    """An idempotent acks=all producer at full speed in a thread; what was acknowledged where."""

    PARTITIONS = 4

    def __init__(self, bootstrap, topic):
        self.topic = topic
        self.producer = confluent_kafka.Producer({
            "bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5,
            "delivery.timeout.ms": 120_000, "queue.buffering.max.messages": 50_000, "reconnect.backoff.max.ms": 500,
        })
        self.acked = [array.array("q") for _ in range(self.PARTITIONS)]  # index: sequence; value: offset, -1 unknown
        self.failures = collections.Counter()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.pour)
        self.thread.start()

    def pour(self):
        padding = b"." * 84
        while not self.stopping.is_set():
            for partition, acked in enumerate(self.acked):
                n = len(acked)
                acked.append(-1)
                while True:
                    try:
                        self.producer.produce(self.topic, b"%016d" % n + padding, partition=partition, on_delivery=self.told)
                        break
                    except BufferError:
                        self.producer.poll(0.05)
            self.producer.poll(0)

    def told(self, error, message):
        if error is not None:
            self.failures[str(error)] += 1
        else:
            self.acked[message.partition()][int(message.value()[:16])] = message.offset()

    def count(self):
        return sum(len(acked) for acked in self.acked)

    def end(self):
        self.stopping.set()
        self.thread.join()
        left = self.producer.flush(120)
        expect(left == 0, left, "records were never decided")


def judge(flood, bootstrap):
    """Nothing acknowledged is lost, doubled, out of order or elsewhere than was said."""
    for partition, acked in enumerate(flood.acked):
        consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
        low, high = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(flood.topic, partition), 20)
        consumer.assign([confluent_kafka.TopicPartition(flood.topic, partition, 0)])
        expect(low == 0, "log start", low)
        position, last, seen, deadline = 0, -1, 0, time.monotonic() + 120
        while position < high and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.5):
                expect(message.error() is None, message.error())
                n, offset = int(message.value()[:16]), message.offset()
                where = f"partition {partition} offset {offset} record {n}"
                expect(n > last, where, "comes after record", last, ": doubled or out of order")
                expect(acked[n] in (-1, offset), where, "was acknowledged at", acked[n])
                lost = sum(1 for skipped in range(last + 1, n) if acked[skipped] >= 0)
                expect(lost == 0, where, lost, "acknowledged records before it are lost")
                last, position, seen = n, offset + 1, seen + 1
        consumer.close()
        expect(position >= high, "partition", partition, "read to", position, "of", high)
        lost = sum(1 for n in range(last + 1, len(acked)) if acked[n] >= 0)
        expect(lost == 0, "partition", partition, lost, "acknowledged records are lost at the end")
    return f"{flood.count()} records"


def kill_checks(folder, kills):
    cluster = Processes(folder, ["broker.session.timeout.ms=3000", "replica.lag.time.max.ms=10000"])
    try:
        if not TALLY.check("kill: three processes start", cluster.start):
            return
        client = AdminClient({"bootstrap.servers": cluster.bootstrap})
        client.create_topics([ConfluentTopic("flood", Flood.PARTITIONS, 3)])["flood"].result(20)
        cluster.await_isr(["flood"])
        flood = Flood(cluster.bootstrap, "flood")

        def kill(id):
            before = flood.count()
            cluster.processes[id].end(signal.SIGKILL)
            time.sleep(1)
            cluster.restart(id)
            cluster.await_isr(["flood"])
            return f"{flood.count() - before} records meanwhile"

        try:
            time.sleep(2)
            for index in range(kills):
                id = index % 3 + 1
                if not TALLY.check(f"kill {index + 1}: broker {id} is killed and comes back into every ISR", kill, id):
                    break
            time.sleep(1)
        finally:
            TALLY.check("kill: every record is decided", flood.end)
        expect_none = lambda: expect(not flood.failures, dict(flood.failures))
        TALLY.check("kill: the producer was refused nothing", expect_none)
        TALLY.check("kill: nothing acknowledged is lost, doubled or out of order", judge, flood, cluster.bootstrap)

        def all_at_once():
            cluster.kill()
            for process in cluster.processes.values():
                process.end(signal.SIGKILL)
            lives = {id: cluster.lives(id) for id in (1, 2, 3)}
            for id in (1, 2, 3):
                cluster.launch(id)
            for id in (1, 2, 3):
                cluster.processes[id].wait_for("is ready after", times=lives[id] + 1)
            cluster.await_isr(["flood"])
            return judge(flood, cluster.bootstrap)

        TALLY.check("kill: the whole cluster is killed at once and has everything afterwards", all_at_once)
        TALLY.check("kill: SIGTERM ends every process with 0", cluster.stop)
    finally:
        cluster.kill()


# ---------------------------------------------------------------- a full disk

class SmallDisk:
    """A tmpfs at `at` that only a holder process, and what runs `inside` its namespace, can see."""

    def __init__(self, at, mebibytes):
        self.at, self.holder, self.inside = at, None, []
        at.mkdir()
        for unshare, nsenter in ((["-m"], ["-m"]), (["-U", "-r", "-m"], ["-U", "-m", "--preserve-credentials"])):
            script = f"mount -t tmpfs -o size={mebibytes}m tmpfs '{at}' && echo mounted && exec sleep infinity"
            holder = subprocess.Popen(["unshare", *unshare, "sh", "-c", script], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)
            if holder.stdout.readline().strip() == b"mounted":
                self.holder, self.inside = holder, ["nsenter", "-t", str(holder.pid), *nsenter]
                return
            holder.wait()

    def grow(self, mebibytes):
        run([*self.inside, "mount", "-o", f"remount,size={mebibytes}m", str(self.at)])

    def end(self):
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()


def full_disk_checks(folder):
    """The disk of broker 3, its only one, fills up while a producer floods."""
    disk = SmallDisk(folder / "3", 48)
    if disk.holder is None:
        TALLY.skip("full disk: a log directory that fills up", "no tmpfs may be mounted here")
        return
    cluster = Processes(folder, ["broker.session.timeout.ms=3000", "replica.lag.time.max.ms=10000"],
                        inside={3: disk.inside})
    try:
        if not TALLY.check("full disk: three processes start", cluster.start):
            return
        client = AdminClient({"bootstrap.servers": cluster.bootstrap})
        client.create_topics([ConfluentTopic("flood", Flood.PARTITIONS, 3)])["flood"].result(20)
        cluster.await_isr(["flood"])
        flood = Flood(cluster.bootstrap, "flood")

        def fills():
            victim = cluster.processes[3]
            code = victim.process.wait(120)
            expect(code == 1, "exits", code, victim.last_error())
            said = victim.last_error()
            expect("No space left" in said or "ENOSPC" in said or "os error 28" in said, "does not say why:", said)
            return said.strip().splitlines()[-1][:160]

        def serve_on():
            until(30, "the others lead everything", lambda: cluster.leaders("flood") <= {1, 2} or cluster.leaders("flood"))
            acked = lambda: sum(1 for one in flood.acked for offset in one[-2_000_000:] if offset >= 0)
            before = acked()
            until(30, "records are acknowledged without it", lambda: acked() > before + 1000 or acked() - before)

        try:
            TALLY.check("full disk: the log directory is offline, the broker says why and exits 1", fills)
            TALLY.check("full disk: the others serve on", serve_on)
        finally:
            TALLY.check("full disk: every record is decided", flood.end)

        def space_again():
            disk.grow(2048)
            cluster.restart(3)
            cluster.await_isr(["flood"], 120)
            expect(not flood.failures, dict(flood.failures))
            return judge(flood, cluster.bootstrap)

        TALLY.check("full disk: with space and a restart all is there, on every replica", space_again)
        TALLY.check("full disk: SIGTERM ends every process with 0", cluster.stop)
    finally:
        cluster.kill()
        disk.end()


# ---------------------------------------------------------------- metrics

def metrics_checks(cluster):
    def scraped():
        sums = collections.Counter()
        for port in cluster.metrics_ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
                text = reply.read().decode()
            expect(text.endswith("# EOF\n"), text[-100:])
            for line in text.splitlines():
                if not line.startswith("#"):
                    name, value = line.rsplit(" ", 1)
                    sums[name.partition("{")[0]] += int(value)
        expect(sums["kafka_controller_kafkacontroller_activecontrollercount"] == 1, sums)
        expect(sums["kafka_server_replicamanager_underreplicatedpartitions"] == 0, sums)
        leaders = sums["kafka_server_replicamanager_leadercount"]
        expect(leaders > 0 and sums["kafka_server_replicamanager_partitioncount"] == 3 * leaders, sums)
        return sums

    def counts():
        before = scraped()["kafka_server_brokertopicmetrics_messagesin_total"]
        run(["kcat", "-b", cluster.bootstrap, "-P", "-t", "kcat", "-p", "0"], stdin=b"x\n" * 1000)
        after = scraped()["kafka_server_brokertopicmetrics_messagesin_total"]
        expect(after - before == 1000, after, "records after", before)
        return f"{after} records in all"

    TALLY.check(f"{cluster.name}: the metrics endpoints count records, leaders and the active controller", counts)


# ---------------------------------------------------------------- refusals

def bad_input_checks(folder):
    cluster = Processes(folder)

    def refused(args, *words, code=1):
        done = run([BROKER, *args], ok=False, timeout=20)
        said = done.stderr.decode()
        expect(done.returncode == code, "exit", done.returncode, said)
        expect(all(word in said for word in words), "wanted", words, "in", said)
        expect("panicked" not in said, said)

    def start(*overrides):
        flags = [flag for override in overrides for flag in ("--override", override)]
        return ["start", "-c", str(cluster.properties(1)), "--log", "off", *flags]

    def wrong_values():
        refused(start("num.partitions=0"), "num.partitions", "`0`", "1 or more")
        refused(start("process.roles=king"), "process.roles", "`king`", "broker, controller")
        refused(start("nonsense"), "nonsense", "KEY=VALUE")
        refused(["start", "-c", "/no/such/file"], "/no/such/file")

    def unformatted():
        empty = folder / "empty"
        refused(start(f"log.dirs={empty}"), str(empty), "not formatted", "broker format")
        expect(not empty.exists(), "the directory was made")

    def formatted_twice():
        args = ["format", "-t", cluster.cluster_id, "-c", str(cluster.properties(1))]
        refused(args, "already formatted", "--ignore-formatted")
        run([BROKER, *args, "--ignore-formatted"])
        refused(["format", "-t", "short", "-c", str(cluster.properties(1))], "cluster-id", "22 characters")

    def other_node():
        refused(start("node.id=2"), "formatted for node 1", "node.id is 2")

    def damaged():
        meta = cluster.dir(1) / "meta.properties"
        kept = meta.read_bytes()
        meta.write_bytes(b"\x00\xff version=what")
        refused(start(), "meta.properties")
        expect(meta.read_bytes() == b"\x00\xff version=what", "changed")
        meta.write_bytes(kept)

    def in_use():
        cluster.start()
        refused(start(), "in use by another process")
        refused(["dev", "--port", str(cluster.ports[0])], str(cluster.ports[0]), "--port")
        cluster.stop()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", cluster.ports[0]))
            taken.listen()
            refused(start(), "cannot listen", str(cluster.ports[0]))

    TALLY.check("bad input: wrong values are refused with key, value and what is allowed", wrong_values)
    TALLY.check("bad input: an unformatted directory is refused and not touched", unformatted)
    TALLY.check("bad input: formatting twice is refused", formatted_twice)
    TALLY.check("bad input: another node's directory is refused", other_node)
    TALLY.check("bad input: a damaged meta.properties is refused", damaged)
    try:
        TALLY.check("bad input: a directory or port in use is refused", in_use)
    finally:
        cluster.kill()


# ---------------------------------------------------------------- all

def cluster_checks(cluster, args):
    try:
        if not TALLY.check(f"{cluster.name}: the cluster starts", cluster.start):
            return
        kcat_checks(cluster)
        kafka_python_checks(cluster, args.records // len(CODECS))
        confluent_checks(cluster, args.records)
        if KAFKA_LIBS:
            java_checks(cluster, args.records // len(CODECS))
        else:
            TALLY.skip(f"{cluster.name}: Kafka's own tools", "no Java or no Maven")
        if isinstance(cluster, Processes):
            metrics_checks(cluster)
        print(f"     {cluster.name}: memory after load {cluster.rss()}")
        if TALLY.check(f"{cluster.name}: SIGTERM is a controlled shutdown, exit 0", cluster.stop) and KAFKA_LIBS:
            dump_log_checks(cluster)
    finally:
        cluster.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--only", default="bad-input,dev,processes,kill,full-disk")
    parser.add_argument("--keep", action="store_true", help="leave the folder with data and logs")
    args = parser.parse_args()
    root = pathlib.Path(tempfile.mkdtemp(prefix="clients-"))
    for part in args.only.split(","):
        folder = root / part
        folder.mkdir()
        before = TALLY.failed
        try:
            if part == "dev":
                cluster_checks(Dev(folder), args)
            elif part == "processes":
                cluster_checks(Processes(folder, ["log.index.interval.bytes=512"]), args)
            elif part == "kill":
                kill_checks(folder, args.kills)
            elif part == "full-disk":
                full_disk_checks(folder)
            elif part == "bad-input":
                bad_input_checks(folder)
            else:
                parser.error(f"--only {part}: bad-input, dev, processes, kill, full-disk")
        except Exception:
            TALLY.failed += 1
            traceback.print_exc()
        if TALLY.failed == before and not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if TALLY.failed == 0 and not args.keep:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"data and logs are in {root}")
    if TALLY.skipped:
        print(f"{TALLY.skipped} skipped")
    print(f"{TALLY.passed} passed, {TALLY.failed} failed")
    sys.exit(1 if TALLY.failed else 0)


main()

"""Our broker beside Apache Kafka: the same files of configuration, the same clients, one after the other. See compare.sh."""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

import confluent_kafka
import confluent_kafka.admin

BROKER = os.environ["BROKER"]
LIBS = os.environ["KAFKA_LIBS"]
JAVA = ["java", "-XX:+UseG1GC", "-Dlog4j2.level=ERROR", "-Dlog4j2.statusLoggerLevel=OFF", "-cp", f"{LIBS}/*"]
TICKS = os.sysconf("SC_CLK_TCK")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def run(args, **more):
    done = subprocess.run(args, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise SystemExit(f"{args[0]} exits {done.returncode}: {done.stdout[-300:]}{done.stderr[-600:]}")
    return done.stdout


class Cluster:
    """Three nodes, each broker and controller."""

    def __init__(self, name, folder):
        self.name, self.folder, self.processes = name, folder, []
        ports = free_ports(6)
        self.ports = ports[:3]
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in zip((1, 2, 3), ports[3:]))
        cluster_id = run([BROKER, "random-uuid"]).strip()
        for node in (1, 2, 3):
            (folder / f"{node}.properties").write_text("\n".join([
                f"node.id={node}", "process.roles=broker,controller",
                f"listeners=PLAINTEXT://127.0.0.1:{ports[node - 1]},CONTROLLER://127.0.0.1:{ports[node + 2]}",
                "controller.listener.names=CONTROLLER", f"controller.quorum.voters={voters}",
                f"log.dirs={folder}/{node}", "default.replication.factor=3", "min.insync.replicas=2",
                "offsets.topic.replication.factor=3", "num.partitions=3",
            ]) + "\n")
            tool = [BROKER, "format"] if name == "ours" else [*JAVA, "kafka.tools.StorageTool", "format"]
            run([*tool, "-t", cluster_id, "-c", str(folder / f"{node}.properties")])

    def start(self):
        """Seconds until a record is acknowledged by all."""
        began = time.monotonic()
        for node in (1, 2, 3):
            start = [BROKER, "start", "-c"] if self.name == "ours" else [*JAVA[:1], "-Xmx1G", "-Xms1G", *JAVA[1:], "kafka.Kafka"]
            out = open(self.folder / f"{node}.out", "wb")
            args = [*start, str(self.folder / f"{node}.properties")]
            self.processes.append(subprocess.Popen(args, stdout=out, stderr=out, stdin=subprocess.DEVNULL))
        while True:
            # kcat gives up by itself, so that each try asks the cluster anew.
            tried = subprocess.run(["kcat", "-P", "-q", "-b", self.bootstrap, "-t", "first", "-X", "acks=all", "-X",
                                    "message.timeout.ms=250"], input=b"x", capture_output=True)
            if tried.returncode == 0:
                return time.monotonic() - began
            if time.monotonic() - began > 120:
                raise SystemExit(f"{self.name} does not serve; see {self.folder}: {tried.stderr[-300:]}")

    def cpu(self):
        ticks = 0
        for process in self.processes:
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def rss(self):
        mib = []
        for process in self.processes:
            for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    mib.append(int(line.split()[1]) / 1024)
        return max(mib)

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def produce(cluster, topic, records, size):
    line = run([*JAVA, "org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", str(records),
                "--record-size", str(size), "--throughput", "-1", "--producer-props",
                f"bootstrap.servers={cluster.bootstrap}", "acks=all"]).strip().splitlines()[-1]
    return line.split(",")[1].strip().split(" ")[0]


def consume(cluster, topic, records):
    """Everything of all three partitions, by librdkafka."""
    count = 0
    for partition in range(3):
        out = subprocess.Popen(["kcat", "-C", "-q", "-e", "-b", cluster.bootstrap, "-t", topic, "-p", str(partition),
                                "-o", "beginning", "-D", "\n", "-X", "check.crcs=true"], stdout=subprocess.PIPE)
        count += sum(block.count(b"\n") for block in iter(lambda: out.stdout.read1(1 << 20), b""))
        out.wait()
    if count < records:
        raise SystemExit(f"{cluster.name}: {count} of {records} records came back")


def latency(cluster):
    """One request in flight: median milliseconds of 2,000."""
    producer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "linger.ms": 0})
    took = []
    for _ in range(2200):
        began = time.monotonic()
        producer.produce("latency", b"." * 100, partition=0)
        producer.flush(10)
        took.append((time.monotonic() - began) * 1000)
    return statistics.median(took[200:])


def measure(cluster, args):
    figures = [("start to the first acknowledged record, s", cluster.start()), ("memory of a broker idle, MiB", cluster.rss())]

    def timed(what, scale, work):
        cpu, began = cluster.cpu(), time.monotonic()
        said = work()
        spent, took = cluster.cpu() - cpu, time.monotonic() - began
        figures.append((f"{what}: CPU-s of all brokers per million records", spent * scale))
        figures.append((f"{what}: records/s", float(said) if said else 1e6 / scale / took))

    client = confluent_kafka.admin.AdminClient({"bootstrap.servers": cluster.bootstrap})
    topics = [("small", args.records, 100), ("large", args.records // 5, 1024)]
    names = [name for name, _, _ in topics] + ["latency"]
    for future in client.create_topics([confluent_kafka.admin.NewTopic(name, 3, 3) for name in names]).values():
        future.result(30)
    time.sleep(2)
    for name, records, size in topics:
        scale = 1e6 / records
        for heat in ("cold", "warm"):
            timed(f"produce {size} bytes, {heat}", scale, lambda: produce(cluster, name, records, size))
        for heat in ("cold", "warm"):
            timed(f"consume {size} bytes, {heat}", scale / 2, lambda: consume(cluster, name, 2 * records))
    figures.append(("one request in flight, median ms", latency(cluster)))
    figures.append(("memory of a broker after load, MiB", cluster.rss()))
    return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["ours", "kafka"])
    args = parser.parse_args()
    table = {}
    for name in ("ours", "kafka"):
        if args.only not in (None, name):
            continue
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"compare-{name}-"))
        cluster = Cluster(name, folder)
        try:
            for what, figure in measure(cluster, args):
                table.setdefault(what, {})[name] = figure
        finally:
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{'':58}{'ours':>12}{'Kafka 4.3.1':>14}{'ours/Kafka':>12}")
    for what, row in table.items():
        ours, kafka = row.get("ours"), row.get("kafka")
        ratio = f"{ours / kafka:.3f}" if ours and kafka else ""
        cells = [f"{cell:,.0f}" if cell and cell > 1000 else f"{cell:.2f}" if cell is not None else "" for cell in (ours, kafka)]
        print(f"{what:58}{cells[0]:>12}{cells[1]:>14}{ratio:>12}")


main()

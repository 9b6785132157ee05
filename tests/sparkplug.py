"""Checks the messages of an edge node against rules of Sparkplug B 3.0, which it names as the TCK does.

    sparkplug.py RECORD.jsonl

Each line of the record is a message that a subscriber to spBv1.0/# with QoS 1 received, in order:
{"topic": …, "qos": …, "retain": …, "payload": hexadecimal}. pysparkplug decodes them; it shares no code with the
daemon. Prints a report as JSON, which names the broken rules, and exits with 1 if there are any or an event is missing.
"""

import json
import re
import sys

from pysparkplug import DataType, DBirth, DData, DDeath, Metric, NBirth, NData
from pysparkplug._protobuf import Payload


class NDeath:
    """Replaces pysparkplug's own class, which drops the timestamp."""

    def __init__(self, payload):
        self.timestamp = payload.timestamp if payload.HasField("timestamp") else 0
        self.metrics = tuple(Metric.from_pb(m) for m in payload.metrics)
        if payload.HasField("seq"):
            self.seq = payload.seq

    @classmethod
    def decode(cls, raw, birth=None):
        return cls(Payload.FromString(raw))


KINDS = {"NBIRTH": NBirth, "NDATA": NData, "NDEATH": NDeath, "DBIRTH": DBirth, "DDATA": DData, "DDEATH": DDeath}
REBIRTH = "Node Control/Rebirth"


class Checker:
    def __init__(self):
        self.broken = {}
        self.counts = dict.fromkeys(KINDS, 0)
        self.sessions = []
        self.rebirths = 0
        self.node_birth = None
        self.device_births = {}
        self.seq = None
        self.wrapped = 0
        self.historical = 0
        self.ids = {}

    def rule(self, name, holds, detail=""):
        if not holds:
            self.broken.setdefault(f"tck-id-{name}", str(detail))

    def message(self, line):
        topic, payload = line["topic"], bytes.fromhex(line["payload"])
        parts = topic.split("/")
        self.rule("topic-structure-namespace-a", parts[0] == "spBv1.0", topic)
        kind = parts[2]
        if kind == "NCMD":
            return
        if kind not in KINDS:
            return self.rule("topic-structure", False, topic)
        self.counts[kind] += 1
        self.rule("topic-structure", len(parts) == (5 if kind[0] == "D" else 4), topic)
        self.rule("topic-structure-namespace-valid-edge-node-id", all(re.fullmatch(r"[^+/#]+", p) for p in parts), topic)
        qos = 1 if kind == "NDEATH" else 0
        names = {"NDEATH": "ndeath-will-message-qos"}
        self.rule(f"payloads-{names.get(kind, kind.lower() + '-qos')}", line["qos"] == qos, f"{topic} with QoS {line['qos']}")
        self.rule(f"payloads-{kind.lower()}-retain", not line["retain"], topic)
        birth = self.node_birth if kind[0] == "N" else self.device_births.get(parts[-1])
        decoded = KINDS[kind].decode(payload, birth=birth if kind in ("NDATA", "DDATA") else None)
        self.rule("payloads-timestamp-in-UTC", 1_700_000_000_000 < decoded.timestamp < 4_000_000_000_000, decoded.timestamp)
        getattr(self, kind.lower())(decoded, parts[-1])

    def sequence(self, decoded, kind):
        self.rule("payloads-sequence-num-always-included", hasattr(decoded, "seq"), kind)
        self.rule("payloads-nbirth-seq" if kind == "NBIRTH" else "payloads-sequence-num-incrementing", 0 <= decoded.seq <= 255, decoded.seq)
        if kind == "NBIRTH":
            self.rule("payloads-sequence-num-zero-nbirth", decoded.seq == 0, decoded.seq)
        else:
            self.rule("principles-birth-certificates-order", self.seq is not None, f"{kind} before NBIRTH")
            expected = None if self.seq is None else (self.seq + 1) % 256
            self.rule("payloads-sequence-num-incrementing", decoded.seq == expected, f"{kind} {decoded.seq} after {self.seq}")
            self.wrapped += decoded.seq == 0
        self.seq = decoded.seq

    def metrics(self, decoded, kind, birth=None):
        for metric in decoded.metrics:
            self.rule("payloads-metric-timestamp-in-UTC", metric.timestamp is not None, f"{kind} {metric.name}")
            self.rule("payloads-name-requirement", bool(metric.name), kind)
            if birth is not None:
                known = {m.name: m for m in birth.metrics}
                self.rule(f"topics-{kind[0].lower()}birth-metric-reqs", metric.name in known, metric.name)
                if metric.name not in known:
                    continue
                self.rule("payloads-metric-datatype-value", metric.datatype == known[metric.name].datatype, metric.name)
            else:
                self.rule("payloads-metric-datatype-req", metric.datatype != DataType.UNKNOWN, f"{kind} {metric.name}")
            self.rule("payloads-metric-datatype-value-type", metric.is_null == (metric.value is None), f"{kind} {metric.name}")
        names = [m.name.lower() for m in decoded.metrics]
        self.rule("case-sensitivity-metric-names", len(set(names)) == len(names), kind)

    @staticmethod
    def value(decoded, name):
        return next((m for m in decoded.metrics if m.name == name), None)

    def nbirth(self, decoded, _node):
        self.sequence(decoded, "NBIRTH")
        self.metrics(decoded, "NBIRTH")
        bd_seq = self.value(decoded, "bdSeq")
        self.rule("payloads-nbirth-bdseq", bd_seq is not None and bd_seq.datatype == DataType.INT64)
        rebirth = self.value(decoded, REBIRTH)
        self.rule("topics-nbirth-rebirth-metric", rebirth is not None and rebirth.datatype == DataType.BOOLEAN and rebirth.value is False)
        alive = self.node_birth is not None
        if alive:
            self.rebirths += 1
            self.rule("payloads-nbirth-rebirth-bdseq", self.sessions[-1] == bd_seq.value, bd_seq.value)
        else:
            expected = (self.sessions[-1] + 1) % 256 if self.sessions else 0
            self.rule("topics-nbirth-bdseq-increment", bd_seq.value == expected, f"{bd_seq.value}, expected {expected}")
            self.sessions.append(bd_seq.value)
        self.node_birth, self.device_births = decoded, {}

    def ndata(self, decoded, _node):
        self.sequence(decoded, "NDATA")
        self.metrics(decoded, "NDATA", self.node_birth)

    def ndeath(self, decoded, _node):
        self.rule("payloads-ndeath-seq", not hasattr(decoded, "seq"))
        bd_seq = self.value(decoded, "bdSeq")
        self.rule("payloads-ndeath-bdseq", bd_seq is not None and len(decoded.metrics) == 1)
        self.rule("topics-nbirth-bdseq-matching", self.sessions and bd_seq.value == self.sessions[-1], bd_seq.value)
        self.node_birth, self.device_births, self.seq = None, {}, None

    def dbirth(self, decoded, device):
        self.rule("payloads-dbirth-order", self.node_birth is not None, device)
        self.sequence(decoded, "DBIRTH")
        self.metrics(decoded, "DBIRTH")
        self.device_births[device] = decoded

    def ddata(self, decoded, device):
        birth = self.device_births.get(device)
        self.rule("payloads-ddata-order", birth is not None, f"{device} is not born")
        self.sequence(decoded, "DDATA")
        self.metrics(decoded, "DDATA", birth)
        self.historical += any(m.is_historical for m in decoded.metrics)
        _, boot, camera, seq = self.value(decoded, "id").value.split("/")
        self.ids.setdefault((boot, camera), []).append(int(seq))

    def ddeath(self, decoded, device):
        self.rule("operational-behavior-device-ddeath", device in self.device_births, f"{device} is not born")
        self.sequence(decoded, "DDEATH")
        self.device_births.pop(device, None)


def main(path):
    checker = Checker()
    with open(path) as record:
        for line in record:
            checker.message(json.loads(line))
    lost = {}
    for key, seqs in checker.ids.items():
        missing = set(range(max(seqs) + 1)) - set(seqs)
        if missing:
            lost["/".join(key)] = sorted(missing)[:10]
        first = list(dict.fromkeys(seqs))
        if first != sorted(first):
            lost["/".join(key) + " order"] = first[:10]
    print(json.dumps({
        "counts": checker.counts, "sessions": checker.sessions, "rebirths": checker.rebirths, "wrapped": checker.wrapped,
        "historical": checker.historical, "events": sum(len(set(s)) for s in checker.ids.values()), "lost": lost,
        "broken": checker.broken,
    }))
    return 1 if checker.broken or lost else 0


sys.exit(main(sys.argv[1]))

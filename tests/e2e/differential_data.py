"""The samples of the differential test: counters with resets, gauges with NaN and infinities, gaps, staleness markers,
bucket families of all kinds, native histograms, late samples. A seed and a time settle them all.
"""
import math
import random
import struct

import quipu_client as qc

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
STEP = 15
LE = ("0.1", "0.5", "1", "2.5", "10", "+Inf")
CITIES = ("Zürich", "東京", "a\"b\\c", "<x>&y", "new\nline", "")


def labels_text(labels):
    return sorted(labels.items())


class Data:
    def __init__(self, seed, base, span, reduced):
        self.r = random.Random(seed)
        self.base, self.span, self.reduced = base, span, reduced
        self.floats, self.histograms = [], []       # (labels, [(t_ms, value)])

    def times(self, jitter):
        """The scrape times of one series: on the grid, or off it by a fixed number of milliseconds."""
        off = self.r.randrange(1, 14000) if jitter or self.reduced else 0
        if self.reduced:
            off = off // 20 * 20 + 7                # never at a query's edge: those end on another digit
        return [(self.base + t) * 1000 + off for t in range(0, self.span, STEP)]

    def with_gaps(self, samples):
        """Leaves out stretches; some of them begin with a staleness marker."""
        out, i = [], 0
        while i < len(samples):
            if self.r.random() < 0.02:
                if self.r.random() < 0.6:
                    out.append((samples[i][0], STALE))
                    i += 1
                i += self.r.randrange(1, 30)
                continue
            out.append(samples[i])
            i += 1
        return out

    def add(self, labels, values, jitter=False, gaps=False):
        samples = [(t, values(i)) for i, t in enumerate(self.times(jitter))]
        self.floats.append((labels, self.with_gaps(samples) if gaps else samples))

    def resets(self, i, chance):
        """Releases differ where few samples with a reset among them are extrapolated: reduced, there is none near the
        first and the last sample, where windows are cut."""
        return self.r.random() < chance and not (self.reduced and not 90 <= i < self.span // STEP - 30)

    def counter(self, rate, reset=0.02):
        # Where releases differ in what they make of a counter near zero (--reduced), it never is.
        floor = 1e6 if self.reduced else 0
        state = [floor + self.r.choice((0, 3, 1000))]

        def value(i):
            state[0] = floor + self.r.random() * 2 if self.resets(i, reset) else state[0] + self.r.random() * rate
            return state[0] if rate < 1 else float(math.floor(state[0]))
        return value

    def gauge(self, middle, width, odd=0.0):
        def value(i):
            if self.r.random() < odd:
                return self.r.choice((math.nan, math.inf, -math.inf, 0.0, -0.0))
            return middle + width * (self.r.random() - 0.5)
        return value

    def make_floats(self):
        r = self.r
        for job in ("api", "web"):
            for instance in ("a:1", "b:1", "c:1"):
                for code in ("200", "404", "500"):
                    self.add({"__name__": "requests_total", "job": job, "instance": instance, "code": code},
                             self.counter(50), jitter=code == "404", gaps=code == "500" and not self.reduced)
                where = {"job": job, "instance": instance}
                self.add({"__name__": "temperature", "zone": r.choice(("x", "y")), **where},
                         self.gauge(-3, 40, 0 if self.reduced else 0.02), jitter=job == "web", gaps=instance == "b:1")
                self.add({"__name__": "load", **where}, self.gauge(2, 3), gaps=True)
                self.add({"__name__": "up", **where}, lambda i: float(r.random() < 0.9), gaps=instance == "c:1")
                self.add({"__name__": "build_info", "version": "1.%d" % r.randrange(3), **where}, lambda i: 1.0)
                self.add({"__name__": "target_info", "env": r.choice(("dev", "prod")), "rack": instance[0] * 2, **where},
                         lambda i: 1.0, gaps=instance == "a:1")
            self.add({"__name__": "slots", "job": job}, lambda i: float(i // 7 % 5), jitter=True)
            for handler in ("/", "/x"):
                self.bucket_family(job, handler)
        for i, city in enumerate(CITIES):
            if self.reduced and "\n" in city:       # . matches it since 3.0
                continue
            self.add({"__name__": "visits", "n": str(i), **({"city": city} if city else {})}, self.counter(3, 0.01))
        if not self.reduced:
            self.add({"__name__": "disk.used", "device.name": "sda", "job": "api"}, self.gauge(50, 9))
            self.add({"__name__": "disk.used", "device.name": "sdb", "job": "web"}, self.gauge(60, 9))
            self.add({"__name__": "tiny"}, self.gauge(0, 1e-300))
            self.add({"__name__": "huge", "n": "1"}, self.gauge(0, 1.7e308))
            self.add({"__name__": "huge", "n": "2"}, self.gauge(1e308, 1e308))

    def bucket_family(self, job, handler):
        """Good ones, and one of each fault: not cumulative, no +Inf, a bound that is no number."""
        first = [1e6 * (k + 1) if self.reduced else 0.0 for k in range(len(LE))]
        counts = list(first)
        rows = {le: [] for le in LE}
        for i, t in enumerate(self.times(False)):
            if self.resets(i, 0.01):
                counts = list(first)
            for _ in range(self.r.randrange(12)):
                x = self.r.expovariate(0.7)
                for k, le in enumerate(LE):
                    counts[k] += x <= float(le)
            for k, le in enumerate(LE):
                rows[le].append((t, counts[k]))
        crooked = handler == "/x" and job == "web" and not self.reduced
        for le in LE:
            samples = rows[le]
            if crooked and le == "1":
                samples = [(t, v * 0.7) for t, v in samples]
            if handler == "/x" and job == "api" and le == "+Inf" and not self.reduced:
                le = "many"
            self.floats.append(({"__name__": "latency_bucket", "job": job, "handler": handler, "le": le}, samples))
        self.floats.append(({"__name__": "latency_count", "job": job, "handler": handler}, rows["+Inf"]))

    def exponential(self, schema, state, gauge):
        n = len(state["positive"])
        for _ in range(self.r.randrange(8)):
            state["positive"][self.r.randrange(n)] += 1
        for _ in range(self.r.randrange(3)):
            state["negative"][self.r.randrange(len(state["negative"]))] += 1
        state["zero"] += self.r.randrange(2)
        count = sum(state["positive"]) + sum(state["negative"]) + state["zero"]
        state["sum"] += self.r.random() * 20 - 3
        return {"schema": schema, "count": count, "sum": state["sum"], "zero_threshold": state["threshold"],
                "zero_count": state["zero"], "pspans": [(state["first"], n)], "pcounts": list(state["positive"]),
                "nspans": [(0, len(state["negative"]))], "ncounts": list(state["negative"]),
                "reset_hint": 3 if gauge else 0}

    def custom(self, bounds, state):
        for _ in range(self.r.randrange(8)):
            state["positive"][self.r.randrange(len(bounds) + 1)] += 1
        state["sum"] += self.r.random() * 5
        return {"schema": -53, "count": sum(state["positive"]), "sum": state["sum"], "custom": list(bounds),
                "pspans": [(0, len(bounds) + 1)], "pcounts": list(state["positive"])}

    def new_state(self, n, threshold=0.001):
        return {"positive": [0.0] * n, "negative": [0.0] * 2, "zero": 0.0, "sum": 0.0, "first": self.r.randrange(0 if threshold > 0.1 else -3, 2),
                "threshold": threshold}

    def histogram_series(self, labels, one, n, threshold=0.001, gaps=False):
        state, samples = self.new_state(n, threshold), []
        for i, t in enumerate(self.times(False)):
            if self.r.random() < 0.01:
                state.update(self.new_state(n, threshold))
            if gaps and i % 50 > 40:
                continue
            samples.append((t, one(state, i)))
        self.histograms.append((labels, samples))

    def make_histograms(self):
        for job in ("api", "web"):
            for instance, schema in (("a:1", 0), ("b:1", 3), ("c:1", -1)):
                where = {"job": job, "instance": instance}
                self.histogram_series({"__name__": "size", **where},
                                      lambda s, i, schema=schema: self.exponential(schema, s, False), 6,
                                      0.001 if job == "api" else 0.25, gaps=instance == "b:1")
        self.histogram_series({"__name__": "size_gauge", "job": "api"}, lambda s, i: self.exponential(1, s, True), 5)
        self.histogram_series({"__name__": "changing", "job": "api"},
                              lambda s, i: self.exponential(2 if i // 30 % 2 else 0, s, False), 4)
        for job in ("api", "web"):
            self.histogram_series({"__name__": "wait", "job": job}, lambda s, i: self.custom((0.5, 1.0, 5.0), s), 4)
        # Floats first, then histograms, then floats again
        times = self.times(False)
        state = self.new_state(4)
        self.floats.append(({"__name__": "mixed", "job": "api"},
                            [(t, float(i)) for i, t in enumerate(times) if i // 20 % 2 == 0]))
        self.histograms.append(({"__name__": "mixed", "job": "api"},
                                [(t, self.exponential(0, state, False)) for i, t in enumerate(times) if i // 20 % 2]))


def varint_field(number, value):
    return qc.varint(number << 3) + qc.varint(value)


def double_field(number, value):
    return qc.varint(number << 3 | 1) + struct.pack("<d", value)


def zigzag(n):
    return (n << 1) ^ (n >> 63)


def encode_spans(number, spans):
    return b"".join(qc.field(number, varint_field(1, zigzag(offset)) + varint_field(2, length))
                    for offset, length in spans)


def doubles_field(number, values):
    return qc.field(number, struct.pack("<%dd" % len(values), *values)) if values else b""


def encode_histogram(h, t_ms):
    """A float histogram: absolute counts."""
    return (double_field(2, h["count"]) + double_field(3, h["sum"]) + varint_field(4, zigzag(h["schema"])) +
            double_field(5, h.get("zero_threshold", 0.0)) + double_field(7, h.get("zero_count", 0.0)) +
            encode_spans(8, h.get("nspans", [])) + doubles_field(10, h.get("ncounts", [])) +
            encode_spans(11, h["pspans"]) + doubles_field(13, h["pcounts"]) +
            varint_field(14, h.get("reset_hint", 0)) + varint_field(15, t_ms) + doubles_field(16, h.get("custom", [])))


def send(servers, body):
    for server in servers:
        status, text = server.write(body)
        if status // 100 != 2:
            raise RuntimeError("a write got %d %s" % (status, text.decode(errors="replace")))


def write_data(servers, seed, base, span, reduced):
    """The first sample of every series in the order of labels, as storage order shows in results; then the others in pieces,
    some of them late."""
    data = Data(seed, base, span, reduced)
    data.make_floats()
    if not reduced:
        data.make_histograms()
    floats = sorted(data.floats, key=lambda s: labels_text(s[0]))
    histograms = {tuple(labels_text(labels)): samples for labels, samples in data.histograms}
    body = [(labels_text(labels), qc.encode_series(qc.encode_labels(labels), samples[:1]))
            for labels, samples in floats]
    body += [(labels_text(labels), encode_histograms(labels, samples[:1])) for labels, samples in data.histograms
             if labels["__name__"] != "mixed"]
    for _, series in sorted(body):
        send(servers, series)
    pieces = []
    for labels, samples in floats:
        cut = sorted(data.r.sample(range(1, len(samples)), 3))
        pieces += [(labels, samples[a:b]) for a, b in zip([1] + cut, cut + [len(samples)]) if a < b]
    data.r.shuffle(pieces)
    for k in range(0, len(pieces), 20):
        send(servers, b"".join(qc.encode_series(qc.encode_labels(labels), samples)
                               for labels, samples in pieces[k:k + 20]))
    for labels, samples in histograms.items():
        send(servers, encode_histograms(dict(labels), samples[0 if dict(labels)["__name__"] == "mixed" else 1:]))


def encode_histograms(labels, samples):
    return qc.field(1, qc.encode_labels(labels) +
                    b"".join(qc.field(4, encode_histogram(h, t)) for t, h in samples))

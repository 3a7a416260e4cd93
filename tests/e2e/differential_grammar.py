"""Random PromQL for the differential test, as trees, so that a difference can be shrunk to a short expression that shows it."""
import random
import re

SCALAR, VECTOR, MATRIX, STRING = "scalar", "vector", "matrix", "string"

# Metric -> its labels with values that occur
METRICS = {
    "requests_total": {"job": ("api", "web"), "instance": ("a:1", "b:1", "c:1"), "code": ("200", "404", "500")},
    "temperature": {"job": ("api", "web"), "instance": ("a:1", "b:1", "c:1"), "zone": ("x", "y")},
    "load": {"job": ("api", "web"), "instance": ("a:1", "b:1", "c:1")},
    "up": {"job": ("api", "web"), "instance": ("a:1", "b:1", "c:1")},
    "build_info": {"job": ("api", "web"), "instance": ("a:1", "b:1", "c:1"), "version": ("1.0", "1.1")},
    "target_info": {"job": ("api", "web"), "instance": ("a:1", "b:1", "c:1"), "env": ("dev", "prod")},
    "slots": {"job": ("api", "web")},
    "latency_bucket": {"job": ("api", "web"), "handler": ("/", "/x"), "le": ("0.1", "1", "+Inf")},
    "latency_count": {"job": ("api", "web"), "handler": ("/", "/x")},
    "visits": {"city": ("Zürich", "東京", "a\"b\\c", "<x>&y", "new\nline"), "n": ("0", "1")},
}
ODD_METRICS = {     # not in older releases, or not the same there
    "disk.used": {"device.name": ("sda", "sdb"), "job": ("api",)},
    "tiny": {"n": ("1",)},
    "huge": {"n": ("1", "2")},
    "size": {"job": ("api", "web"), "instance": ("a:1", "b:1", "c:1")},
    "size_gauge": {"job": ("api",)},
    "changing": {"job": ("api",)},
    "wait": {"job": ("api", "web")},
    "mixed": {"job": ("api",)},
    "missing": {"job": ("api",)},
}
COUNTERS = ("requests_total", "latency_bucket", "latency_count", "visits")
LABELS = ("job", "instance", "code", "zone", "version", "env", "handler", "le", "city", "n")
REGEXES = (".*", ".+", "a.*", "api|web", "[ab]:1", "(?i)API", "", "a:1|", "[^x]", "5..|404", "Z.*h", "..")

ELEMENT = ("abs ceil floor exp sqrt ln log2 log10 sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sgn deg "
           "rad").split()
DATES = "minute hour day_of_week day_of_month day_of_year days_in_month month year".split()
RATES = "rate increase irate".split()
LONG_RANGES = ("5m", "7m30s", "10m", "20m")
OVER_TIME = ("delta idelta resets changes deriv sum_over_time avg_over_time min_over_time max_over_time "
             "count_over_time last_over_time present_over_time stddev_over_time stdvar_over_time "
             "absent_over_time").split()
OVER_TIME_NEW = "mad_over_time ts_of_last_over_time ts_of_min_over_time ts_of_max_over_time".split()
HISTOGRAM = "histogram_count histogram_sum histogram_avg histogram_stddev histogram_stdvar".split()
AGGREGATIONS = "sum avg count min max group stddev stdvar".split()
ARITHMETIC = "+ - * / % ^ atan2".split()
COMPARISONS = "== != < <= > >=".split()
RANGES = ("1m", "2m", "90s", "5m", "7m30s", "30s", "15s", "61s", "10m", "20m")


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class Node:
    """An expression: `parts` are texts and nodes in turn; joined they are its text."""

    def __init__(self, kind, *parts):
        self.kind, self.parts = kind, parts

    def text(self):
        return "".join(p if isinstance(p, str) else p.text() for p in self.parts)

    def children(self):
        return [p for p in self.parts if isinstance(p, Node)]

    def below(self):
        for child in self.children():
            yield child
            yield from child.below()

    def with_child(self, i, other):
        return Node(self.kind, *self.parts[:i], other, *self.parts[i + 1:])

    def smaller(self):
        """Trees with one node replaced by a smaller one of its kind."""
        for node in self.below():
            if node.kind == self.kind:
                yield node
        for i, p in enumerate(self.parts):
            if isinstance(p, Node):
                for simple in {SCALAR: ("1", "0.5"), VECTOR: ("load", "up", "temperature", "requests_total")}.get(p.kind, ()):
                    if len(simple) < len(p.text()):
                        yield self.with_child(i, Node(p.kind, simple))
                for q in p.smaller():
                    yield self.with_child(i, q)
            elif len(p) > 1 and p[0] == "\0":
                yield self.with_child(i, "")


def shrunk(tree, shows, tries=300):
    """The text of a smaller tree for which shows(text) holds."""
    if isinstance(tree, Text):
        return tree.text()
    done = False
    while not done:
        done = True
        # Whole subexpressions first: they make the largest leaps.
        whole = [n for n in tree.below() if n.kind in (SCALAR, VECTOR)]
        for candidate in sorted([*whole, *tree.smaller()], key=lambda t: len(t.text())):
            if len(candidate.text()) >= len(tree.text()):
                break
            tries -= 1
            if tries < 0:
                return tree.text()
            if shows(candidate.text()):
                tree, done = candidate, False
                break
    return tree.text()


class Text(Node):
    """An expression that is no tree: syntax errors."""


class Grammar:
    def __init__(self, seed, base, span, reduced):
        self.r = random.Random(seed + 1)
        self.base, self.span, self.reduced = base, span, reduced
        self.metrics = dict(METRICS) if reduced else {**METRICS, **ODD_METRICS}

    def one_in(self, n):
        return self.r.randrange(n) == 0

    def pick(self, what):
        return self.r.choice(list(what))

    # Times

    def instant(self):
        return (self.time(),)

    def time(self):
        t = self.base + self.r.randrange(300, self.span + 400)
        if self.reduced:
            return t + 0.001 * self.r.choice((3, 333, 501))
        return t // 15 * 15 if self.one_in(2) else t + self.r.choice((0, 0.5, 0.123))

    def range(self):
        step = self.pick((15, 30, 60, 17, 7.5, 300) if not self.reduced else (15, 30, 60, 17, 300))
        start = self.time()
        return start, start + step * self.r.randrange(0, 15), step

    # Selectors

    def matcher(self, labels):
        name = self.pick(labels) if not self.one_in(6) else self.pick(LABELS)
        values = labels.get(name, ("api", "x"))
        kind = self.r.randrange(5)
        shown = name if name.isidentifier() else quoted(name)
        if kind <= 1:
            return "%s=%s" % (shown, quoted(self.pick(values) if not self.one_in(8) else ""))
        if kind == 2:
            return "%s!=%s" % (shown, quoted(self.pick(values)))
        return "%s%s%s" % (shown, self.pick(("=~", "!~")), quoted(self.pick(REGEXES)))

    def selector(self, metric=None):
        several = metric is None and not self.reduced and self.one_in(15)
        metric = metric or self.pick(self.metrics)
        labels = self.metrics[metric]
        matchers = [self.matcher(labels) for _ in range(self.pick((0, 0, 0, 0, 1, 1, 2)))]
        if several:
            return "{%s}" % ",".join(['__name__=~"%s"' % self.pick(("load|up", "re.*", "l.*", "temperature|slots",
                                                                    "size.*|wait"))] + matchers)
        if "." in metric:
            return "{%s}" % ", ".join([quoted(metric)] + matchers)
        return metric + ("{%s}" % ",".join(matchers) if matchers else "")

    def modifiers(self):
        out = ""
        if self.one_in(8):
            out += " offset " + self.pick(("1m", "30s", "5m", "-1m", "45s", "1s", "-7m"))
        if self.one_in(12):
            at = self.pick(("start()", "end()", "%d" % (self.base + self.r.randrange(self.span)),
                            "%.1f" % (self.base + self.r.randrange(self.span) + 0.5)))
            if self.reduced and "(" not in at:
                at = "%d.501" % (self.base + self.r.randrange(self.span))
            out = (" @ " + at + out) if self.one_in(2) else (out + " @ " + at)
        return out

    # Expressions by type; depth: how deep they may nest

    def expression(self):
        if not self.reduced and self.one_in(20):
            return self.broken()
        return self.pick((self.vector,) * 12 + (self.scalar,))(self.pick((1, 2, 2, 3, 3, 4)))

    def leaf(self):
        return Node(VECTOR, self.selector(), self.modifiers())

    def vector(self, depth):
        if depth <= 0:
            return self.leaf()
        choices = [self.leaf, self.element, self.over_time, self.over_time, self.rates, self.aggregation,
                   self.aggregation, self.binary, self.binary, self.binary_scalar, self.set_operation, self.labelled,
                   self.odd_vector, self.classic_quantile, self.paren]
        if not self.reduced:
            choices += [self.native, self.native, self.info_call, self.sort_call]
        make = self.pick(choices)
        return make() if make == self.leaf else make(depth - 1)

    def paren(self, depth):
        if self.one_in(2):
            return Node(VECTOR, "(", self.vector(depth), ")")
        return Node(VECTOR, self.pick("+-"), Node(VECTOR, "(", self.vector(depth), ")"))

    def element(self, depth):
        v = self.vector(depth)
        kind = self.r.randrange(10)
        if kind == 0:
            return Node(VECTOR, "round(", v, ")")
        if kind == 1:
            return Node(VECTOR, "round(", v, ", ", self.scalar(depth - 1), ")")
        if kind == 2:
            return Node(VECTOR, "clamp(", v, ", ", self.scalar(depth - 2), ", ", self.scalar(depth - 2), ")")
        if kind == 3:
            return Node(VECTOR, self.pick(("clamp_min", "clamp_max")), "(", v, ", ", self.scalar(depth - 1), ")")
        if kind == 4:
            return Node(VECTOR, self.pick(DATES), "(", v, ")")
        if kind == 5:
            return Node(VECTOR, "timestamp(", v, ")")
        function = self.pick(ELEMENT)
        if self.reduced and function in ("exp", "sinh", "cosh", "sin", "cos", "tan"):
            # Infinities, which 2.42 folds otherwise, and last digits that decide.
            function = "abs"
        return Node(VECTOR, function, "(", v, ")")

    def matrix(self, depth, metric=None, ranges=RANGES):
        if depth > 0 and self.one_in(5):
            step = self.pick(("", "15s", "30s", "1m", "17s", "2m"))
            inner = self.vector(depth - 1)
            # Of two grids inside each other one meets the edges of the other, which 3.0 has moved.
            if self.reduced and re.search(r":[0-9a-z]*\]", inner.text()):
                inner = self.leaf()
            return Node(MATRIX, Node(VECTOR, "(", inner, ")"), "[", self.pick(RANGES), ":", step, "]",
                        self.modifiers())
        return Node(MATRIX, self.selector(metric), "[", self.pick(ranges), "]", self.modifiers())

    def rates(self, depth):
        metric = self.pick(COUNTERS) if self.reduced or not self.one_in(3) else None
        matrix = self.matrix(0, metric, LONG_RANGES) if self.reduced else self.matrix(depth, metric)
        return Node(VECTOR, self.pick(RATES), "(", matrix, ")")

    def over_time(self, depth):
        m = self.matrix(depth)
        kind = self.r.randrange(12)
        if kind == 0:
            return Node(VECTOR, "quantile_over_time(", self.quantile(), ", ", m, ")")
        # 2.42 leaves out steps where @ pins the range.
        if kind == 1 and not (self.reduced and "@" in m.text()):
            later = self.pick(("0", "60", "-1")) if self.reduced else self.scalar(depth - 1).text()
            return Node(VECTOR, "predict_linear(", m, ", ", Node(SCALAR, later), ")")
        if kind == 2 and not self.reduced:
            return Node(VECTOR, "double_exponential_smoothing(", m, ", ", self.quantile(), ", ", self.quantile(), ")")
        if kind <= 4 and not self.reduced:
            return Node(VECTOR, self.pick(OVER_TIME_NEW), "(", m, ")")
        return Node(VECTOR, self.pick(OVER_TIME), "(", m, ")")

    def quantile(self):
        return Node(SCALAR, self.pick(("0.5", "0.9", "0.99", "0", "1", "0.25", "0.123") if self.reduced or
                                      not self.one_in(5) else ("-0.1", "1.5", "NaN", "Inf")))

    def grouping(self):
        labels = self.r.sample(LABELS, self.r.randrange(0, 4))
        if not self.reduced and self.one_in(10):
            labels.append("__name__")
        return " %s (%s)" % (self.pick(("by", "by", "without")), ", ".join(labels))

    def aggregation(self, depth):
        v = self.vector(depth)
        by = self.grouping() if not self.one_in(4) else ""
        kind = self.r.randrange(14)
        op, args = self.pick(AGGREGATIONS), [v]
        if kind == 0:
            op, args = "quantile", [self.quantile(), ", ", v]
        elif kind == 1:
            op, args = self.pick(("topk", "bottomk")), [Node(SCALAR, self.pick(("1", "2", "3", "0", "5"))), ", ", v]
        elif kind == 2:
            if self.reduced:
                by = ""     # 2.42 loses it after the first step
            op, args = "count_values", [quoted(self.pick(("value", "job", "x"))), ", ", v]
        elif kind == 3 and not self.reduced:
            op, args = "limitk", [Node(SCALAR, self.pick(("1", "2", "3", "100"))), ", ", v]
        elif kind == 4 and not self.reduced:
            op, args = "limit_ratio", [Node(SCALAR, self.pick(("0.5", "-0.5", "0.2", "1", "-1", "2"))), ", ", v]
        if self.one_in(2):
            return Node(VECTOR, op, by, " (" if by else "(", *args, ")")
        return Node(VECTOR, op, "(", *args, ")", by)

    def matching(self, group):
        if self.one_in(3):
            return ""
        out = " %s (%s)" % (self.pick(("on", "on", "ignoring")),
                            ", ".join(self.r.sample(("job", "instance", "code", "zone", "le"), self.r.randrange(0, 4))))
        if group and self.one_in(2):
            # A label that is matched on and copied is an error; mostly others.
            out += " %s (%s)" % (self.pick(("group_left", "group_right")),
                                 ", ".join(self.r.sample(("version", "env", "zone", "x", "job"), self.r.randrange(0, 3))))
        return out

    def operator(self):
        if self.one_in(3):
            return self.pick(COMPARISONS) + (" bool" if self.one_in(2) else "")
        return self.arithmetic()

    def arithmetic(self):
        # The rest of a division makes what older releases round otherwise a large part of the result.
        return self.pick(o for o in ARITHMETIC if o != "%" or not self.reduced)

    def binary(self, depth):
        kind = self.r.randrange(4)
        if kind == 0:       # what dashboards do
            left = Node(VECTOR, self.selector(self.pick(("requests_total", "load", "up", "temperature"))))
            return Node(VECTOR, left, " ", self.operator(), " on (job, instance) group_left (%s) " % self.pick(
                ("version", "env", "", "version, env")), Node(VECTOR, self.selector(self.pick(("build_info",
                                                                                             "target_info", "up")))))
        if kind == 1:
            by = " by (%s) " % self.pick(("job", "job, instance", "instance"))
            side = lambda: Node(VECTOR, "sum", by, "(", self.vector(depth - 1), ")")
            return Node(VECTOR, side(), " ", self.operator(), " ", side())
        return Node(VECTOR, self.operand(depth), " ", self.operator(), self.matching(True), " ", self.operand(depth))

    def operand(self, depth):
        v = self.vector(depth)
        return v if self.one_in(3) else Node(VECTOR, "(", v, ")")

    def binary_scalar(self, depth):
        v, s = self.operand(depth), self.scalar(depth - 1)
        if self.one_in(2):
            v, s = s, v
        return Node(VECTOR, v, " ", self.operator(), " ", s)

    def set_operation(self, depth):
        return Node(VECTOR, self.operand(depth), " ", self.pick(("and", "or", "unless")), self.matching(False), " ",
                    self.operand(depth))

    def labelled(self, depth):
        v = self.vector(depth)
        source = self.pick(("job", "instance", "city", "nope") if self.reduced else ("job", "instance", "city", "__name__", "nope"))
        target = self.pick(("x", "job", "x", "__name__" if not self.reduced else "x"))
        if self.one_in(2):
            return Node(VECTOR, "label_join(", v, ", ", quoted(target), ", ", quoted(self.pick(("-", "", "é"))), ", ",
                        quoted(source), ", \"code\")")
        return Node(VECTOR, "label_replace(", v, ", ", quoted(target), ", ",
                    quoted(self.pick(("$1", "x-$1", "", "${1}y", "$2", "$$", "fixed"))), ", ", quoted(source), ", ",
                    quoted(self.pick(("(.*)", "(.*):.*", "(a)(.*)", "web", "(?i)(API)"))), ")")

    def odd_vector(self, depth):
        kind = self.r.randrange(5)
        if kind == 0:
            return Node(VECTOR, "vector(", self.scalar(depth), ")")
        if kind == 1:
            return Node(VECTOR, "absent(", self.vector(depth), ")")
        if kind == 2:
            return Node(VECTOR, "absent(", Node(VECTOR, "nothing{", ",".join(
                    self.matcher(METRICS["up"]) for _ in range(1 if self.reduced else 2)), "}"), ")")
        if kind == 3:
            return Node(VECTOR, self.pick(DATES), "()")
        return Node(VECTOR, "vector(time())")

    def classic_quantile(self, depth):
        inner = self.pick((
            lambda: Node(VECTOR, self.selector("latency_bucket")),
            lambda: Node(VECTOR, "rate(", Node(MATRIX, self.selector("latency_bucket"), "[5m]"), ")"),
            lambda: Node(VECTOR, "sum by (%sle) (" % self.pick(("", "job, ", "handler, ")),
                         Node(VECTOR, "rate(", Node(MATRIX, self.selector("latency_bucket"), "[",
                                              self.pick(LONG_RANGES if self.reduced else RANGES), "]"), ")"),
                         ")"),
            lambda: self.vector(depth)))()
        if not self.reduced and self.one_in(3):
            return Node(VECTOR, "histogram_fraction(", Node(SCALAR, self.pick(("0.1", "-1", "-Inf", "0", "2"))), ", ",
                        Node(SCALAR, self.pick(("1", "0.3", "Inf", "7", "NaN"))), ", ", inner, ")")
        return Node(VECTOR, "histogram_quantile(", self.quantile(), ", ", inner, ")")

    def native(self, depth):
        name = self.pick(("size", "size", "size", "wait", "wait", "size_gauge", "changing", "mixed"))
        inner = self.pick((
            lambda: Node(VECTOR, self.selector(name), self.modifiers()),
            lambda: Node(VECTOR, self.pick(("rate", "increase", "delta", "irate", "idelta", "sum_over_time", "avg_over_time",
                                            "last_over_time")), "(", self.matrix(0, name), ")"),
            lambda: Node(VECTOR, self.pick(("sum", "avg", "count", "max", "group")), self.grouping(), " (",
                         Node(VECTOR, "rate(", self.matrix(0, name), ")"), ")"),
            lambda: Node(VECTOR, Node(VECTOR, self.selector(name)), " ", self.operator(), " ",
                         Node(VECTOR, self.selector(self.pick((name, "wait"))))),
            lambda: Node(VECTOR, Node(VECTOR, self.selector(name)), " ", self.operator(), " ", self.scalar(0))))()
        kind = self.r.randrange(5)
        if kind == 0:
            return Node(VECTOR, "histogram_quantile(", self.quantile(), ", ", inner, ")")
        if kind == 1:
            return Node(VECTOR, "histogram_fraction(", Node(SCALAR, self.pick(("0.1", "-1", "-Inf", "0", "2"))), ", ",
                        Node(SCALAR, self.pick(("1", "0.3", "Inf", "7"))), ", ", inner, ")")
        if kind == 2:
            return Node(VECTOR, self.pick(HISTOGRAM), "(", inner, ")")
        return inner

    def info_call(self, depth):
        v = self.vector(depth)
        if self.one_in(2):
            return Node(VECTOR, "info(", v, ")")
        return Node(VECTOR, "info(", v, ", {", self.pick(('env="dev"', 'env=~".+"', '__name__="build_info"', 'rack!=""',
                                                          'env=~"dev|"', '__name__=~".*_info"')), "})")

    def sort_call(self, depth):
        v = self.vector(depth)
        if self.one_in(2):
            return Node(VECTOR, self.pick(("sort", "sort_desc")), "(", v, ")")
        return Node(VECTOR, self.pick(("sort_by_label", "sort_by_label_desc")), "(", v, ', "job")')

    def number(self):
        return Node(SCALAR, self.pick(("0", "1", "2", "-1", "0.5", "3.7", "1e3", "100", "10", "2.5") if self.reduced or
                                      not self.one_in(5) else ("NaN", "Inf", "-Inf", "1e300", "0x1F", "1e-10", "5m",
                                                               "1e21", "-0")))

    def scalar(self, depth):
        if depth <= 0 or self.one_in(3):
            return self.number()
        kind = self.r.randrange(7)
        if kind == 0:
            return Node(SCALAR, "time()")
        if kind == 1:
            return Node(SCALAR, "pi()")
        if kind == 2:
            return Node(SCALAR, "scalar(", self.vector(depth - 1), ")")
        if kind == 3:
            return Node(SCALAR, "-", Node(SCALAR, "(", self.scalar(depth - 1), ")"))
        if kind == 4:
            return Node(SCALAR, "(", self.scalar(depth - 1), " ", self.pick(COMPARISONS), " bool ", self.scalar(depth - 1), ")")
        return Node(SCALAR, "(", self.scalar(depth - 1), " ", self.arithmetic(), " ", self.scalar(depth - 1), ")")

    # Syntax and type errors: a good expression with one change

    def broken(self):
        text = self.vector(self.pick((0, 1, 2))).text()
        at = self.r.randrange(len(text) + 1)
        kind = self.r.randrange(7)
        bits = ("(", ")", "{", "}", "[", "]", ",", "=", "!", "~", "+", " by ", " on ", "offset", "@", '"', "'", ":", "1", "x", "5m",
                " bool ", "#", "$", "é", "[5m]", "rate(", "sum(", "and", " == ", "1m1h", "\\", "`", "{}", "0x", "foo")
        if kind <= 1:
            text = text[:at] + text[at + 1:]
        elif kind <= 3:
            text = text[:at] + self.pick(bits) + text[at:]
        elif kind == 4:
            text = text[:at]
        elif kind == 5:
            end = min(len(text), at + self.r.randrange(1, 6))
            text = text[:at] + text[end:]
        else:
            text = self.pick((
                lambda: "rate(%s)" % self.selector(), lambda: "sum(%s[5m])" % self.selector(),
                lambda: "%s + %s[5m]" % (self.selector(), self.selector()), lambda: "abs(1)", lambda: "abs()",
                lambda: "rate(load[5m], 1)", lambda: "topk(%s)" % self.selector(), lambda: '"text" + 1',
                lambda: "1 < 2", lambda: "1 and load", lambda: "load and on () group_left () up", lambda: "load + bool up",
                lambda: "nope(load)", lambda: "count_values(1, load)", lambda: 'topk("x", load)', lambda: "(load)[5m]",
                lambda: "load + on (a) group_left (a) up", lambda: "-\"x\"", lambda: "1[5m:1m]", lambda: '"a<b&c"',
                lambda: "load[5m]", lambda: "(load)[2m:30s]", lambda: "vector(1)[5m:]", lambda: "histogram_quantile(load, 1)",
                lambda: "label_replace(load, 1, 2, 3, 4)", lambda: 'label_replace(load, "a", "b", "c", "(")',
                lambda: "{}", lambda: '{a=~".*"}', lambda: "", lambda: "# nothing", lambda: 'load{job=~"("}',
                lambda: "load offset 5m[5m]", lambda: "load offset 1m offset 2m", lambda: "load @ 1 @ 2",
                lambda: "load[0s]", lambda: "load[5m:0s]", lambda: 'load{__name__="up"}', lambda: "limitk(NaN, load)"))()
        return Text(VECTOR, text)

    # Requests that evaluate nothing, and wrong parameters

    def match(self):
        return self.selector() if not self.one_in(12) else self.pick(
            ("{}", "{", "", "rate(up[1m])", "up offset 5m", '{a=~".*"}', 'up{job=~"("}', "up{", "1", '{__name__=~"l.*|up"}'))

    def bounds(self):
        """Times that hold everything, nothing, or are wrong: Prometheus selects by chunks, not by samples."""
        kind = self.r.randrange(5 if self.reduced else 6)
        if kind <= 2:
            return []
        if kind == 3:
            return [("start", "%d" % (self.base + 900)), ("end", "%d" % (self.base + self.span - 900))]
        if kind == 4:
            return [("start", "%d" % (self.base - 999999)), ("end", "%d" % (self.base - 900000))]
        return [(self.pick(("start", "end")), self.pick(("x", "", "1e400", "2020-01-01", "2020-01-01T00:00:00Z", "0x10",
                                                         "-1.5", " 1")))]

    def limit(self):
        if self.reduced or not self.one_in(5):
            return []
        return [("limit", self.pick(("0", "1", "3", "1000", "x", "-1", "1.5", "", "99999999999999999999", "+2")))]

    def request(self):
        kind = self.r.randrange(4 if self.reduced else 8)
        if kind == 0:
            return "/api/v1/series", [("match[]", self.match()) for _ in range(self.pick((0, 1, 1, 2)))] + self.bounds()
        if kind == 1:
            return "/api/v1/labels", [("match[]", self.match()) for _ in range(self.pick((0, 1, 2)))] + \
                self.bounds() + self.limit()
        if kind == 2:
            name = self.pick(LABELS + (("__name__", "nope") if self.reduced else (
                "__name__", "nope", "U__device_2e_name", "a-b", "%ff", "device.name")))
            return "/api/v1/label/%s/values" % name, [("match[]", self.match()) for _ in range(self.pick((0, 1, 1, 2)))] + \
                self.bounds() + self.limit()
        if kind in (3, 4):
            broken = not self.reduced and self.one_in(3)
            text = (self.broken() if broken else self.expression()).text()
            return self.pick(("/api/v1/format_query", "/api/v1/parse_query" if not self.reduced else
                              "/api/v1/format_query")), [("query", text)]
        if kind == 5:
            return "/api/v1/query", self.odd_parameters(("query", "time", "timeout", "lookback_delta", "limit"))
        return "/api/v1/query_range", self.odd_parameters(("query", "start", "end", "step", "timeout", "lookback_delta",
                                                           "limit"))

    def odd_parameters(self, names):
        good = {"query": self.selector(), "time": "%d" % (self.base + 1000), "start": "%d" % (self.base + 1000),
                "end": "%d" % (self.base + 1600), "step": "60"}
        odd = ("", "x", "0", "-1", "1e10", "1.5h", "1m1h", "1m", "1h30m", "1_0", "0x10", "2020-01-01T00:00:00Z",
               "2020-01-01", "300y", " 1", "1.5", "5", "10m", "30s")
        out = []
        for name in names:
            if name in good and not self.one_in(5):
                out.append((name, good[name]))
            elif self.one_in(3 if name not in good else 2):
                out.append((name, self.pick(odd)))
        return out

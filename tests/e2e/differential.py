#!/usr/bin/env python3
"""quipud beside a Prometheus: both get the same generated samples by remote write, then the same generated requests, and
must answer alike: status, error type and text, labels, values within 1e-9, annotations.

Each kind of difference is printed once, with the shortest expression found that shows it. Differences that are meant
stand in ALLOWED, each with its reason. Exit status 1: there is one that is not. Replay with --seed and --base.

With --reduced the reference may be an older release, 2.42 say: what 3.0 changed is left out of the data and expressions.
"""
import argparse
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quipu_client as qc
from differential_grammar import Grammar, shrunk
from differential_data import write_data

FEATURES = "promql-experimental-functions,native-histograms,promql-delayed-name-removal,promql-duration-expr"
CONFIG = "global: {evaluation_interval: 1m}\nstorage: {tsdb: {out_of_order_time_window: 36500d}}\n"
TOLERANCE = 1e-9    # relative; --reduced: also absolute, as older releases round otherwise where large numbers cancel out
SPAN = 3600         # seconds of samples


class Difference(Exception):
    """kind: what differs, in a word or two; text: how."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind, self.text = kind, text


# What may differ: (name, reason, test(request, kind, quipu's answer, the reference's)).
def text_of(answer):
    return answer.get("error", "")


ALLOWED = []


def allow(name, reason):
    def add(test):
        ALLOWED.append((name, reason, test))
        return test
    return add


@allow("which of several duplicate series are told", "chance of the order; [3.14] sorts them")
def _(pair, request, kind, ours, theirs):
    start = lambda text: re.sub(r"the match group [{].*?[}] on the", "", text.split(" operation: [")[0])
    return (kind == "error text" and text_of(ours).startswith("found duplicate series") and
            start(text_of(ours)) == start(text_of(theirs)))


def older(text):
    return text.replace("number, duration, step(), or range()", "number or duration")


@allow("words of newer releases", "[3.6] [3.10] tell more")
def _(pair, request, kind, ours, theirs):
    return kind == "error text" and (older(text_of(ours)) == text_of(theirs) or (
        text_of(ours).endswith("expected ':'") and re.search('unexpected (colon|"m")', text_of(theirs))))


@allow("unmatched pairs of filters", "[3.9] checks for several partners before it compares")
def _(pair, request, kind, ours, theirs):
    return kind == "status" and text_of(ours).startswith("multiple matches for labels") and re.search(
        r"[=!<>]|size|wait|changing|mixed", request[1][0][1])       # pairs with histograms often come to nothing, too


@allow("place of notes", "3.5 loses where a subquery stands and takes "
       "quantile_over_time's first argument; of equal texts the last one wins, in quipu the first")
def _(pair, request, kind, ours, theirs):
    text = request[1][0][1]
    return kind == "position of notes" and (
        re.search(r":[0-9a-z]*\]|quantile_over_time", text) or len(re.findall(r"rate|increase|histogram_|over_time|sum|avg|delta|[-+*/^%<>]", text)) > 1)


@allow("NaN in mad_over_time", "[3.14] the result is NaN")
def _(pair, request, kind, ours, theirs):
    return kind == "value" and re.search(r"mad_over_time\(.*(temperature|huge)", request[1][0][1], re.S)


@allow("rate and increase of histograms", "[3.6] begin at zero where a counter does, as those of floats")
def _(pair, request, kind, ours, theirs):
    return kind == "value" and "histogram" in str(theirs) + request[1][0][1] and re.search(
        r"(rate|increase)\(", request[1][0][1])


@allow("timeout of 0", "503 timeout, however it ran out; 3.5 says other things while a query waits for its turn")
def _(pair, request, kind, ours, theirs):
    return any(p in request[1] for p in (("timeout", "0"), ("timeout", "-1"))) and kind in ("status", "error text")


@allow("rates of negative histograms", "[3.7] a negative factor makes gauges")
def _(pair, request, kind, ours, theirs):
    return kind == "notes" and re.search("[-*/]", request[1][0][1]) and {
        s for s in plain_notes(ours) if "histogram metric is not a counter" not in s} == plain_notes(theirs)


@allow("last digits in count_values", "mathematical libraries differ by a digit, which here is in a label")
def _(pair, request, kind, ours, theirs):
    return kind in ("labels", "points") and "count_values" in request[1][0][1] and re.search(r"\d{8}", str(ours))


@allow("absent() by releases before 3.0", "they took the order of matchers for another one")
def _(pair, request, kind, ours, theirs):
    return pair.reduced and kind == "labels" and "absent" in request[1][0][1]


@allow("notes on aggregations of several metrics", "which of them is told, and of which fault, is chance")
def _(pair, request, kind, ours, theirs):
    nameless = lambda answer: {re.sub(r'metric name ".*?"', "", s) for s in plain_notes(answer) if "contains a mix" not in s}
    return kind == "notes" and re.search(r"__name__|\bor\b", request[1][0][1]) and nameless(ours) == nameless(theirs)


@allow("which values a limit leaves", "the first ones; 3.5 cuts before it sorts them")
def _(pair, request, kind, ours, theirs):
    return kind == "data" and request[0].endswith("/values") and "limit" in dict(request[1]) and (
        len(ours["data"]) == len(theirs["data"]))


@allow("rests of divisions of large numbers", "their last digits are a large part of the rest")
def _(pair, request, kind, ours, theirs):
    if kind != "value" or "%" not in request[1][0][1]:
        return False
    try:
        compare_results(ours["data"], theirs["data"], 1e-5)
        return True
    except Difference:
        return False


@allow("avg_over_time of histograms", "a mean that 3.5 corrects step by step, and at times from histograms that another query "
       "changed: a fresh server says what quipu says; [3.10] sums with compensation")
def _(pair, request, kind, ours, theirs):
    return kind == "value" and re.search(r"avg_over_time\(.*(size|wait|changing|mixed)", request[1][0][1], re.S)


@allow("@ in a subquery with @", "3.5 reads samples of another time than it looks at")
def _(pair, request, kind, ours, theirs):
    return kind in ("labels", "points") and re.search(r"@.*:[0-9a-z]*\].*@", request[1][0][1], re.S)


@allow("rounding by releases before 3.0", "the last digit of a mean decides")
def _(pair, request, kind, ours, theirs):
    return pair.reduced and kind == "value" and re.search(r"(round|floor|ceil)\(", request[1][0][1])


@allow("equal labels in releases before 3.0", "names go at once, not at the end; series of one label set cannot take turns")
def _(pair, request, kind, ours, theirs):
    return pair.reduced and kind == "status" and "same labelset" in text_of(theirs)


@allow("infinity under ^", "printed without a sign, so that it reads back as the same expression")
def _(pair, request, kind, ours, theirs):
    return kind == "data" and request[0].endswith("format_query") and (
        ours["data"].replace("+Inf", "Inf") == theirs["data"].replace("+Inf", "Inf"))


@allow("quantiles of negative histograms", "3.5 stops at whichever empty bucket happens to be kept")
def _(pair, request, kind, ours, theirs):
    return kind in ("value", "points") and re.search(r"histogram_(quantile|fraction)\(.*[-].*(size|wait|changing|mixed)",
                                                     request[1][0][1], re.S)


@allow("queries at which the reference fails inside", "no answer to compare with")
def _(pair, request, kind, ours, theirs):
    return "unexpected error: runtime error" in text_of(theirs)


@allow("the year 2286", "3.5 counts in nanoseconds, and beyond 2262 starts again in the past")
def _(pair, request, kind, ours, theirs):
    return any((name, "1e10") in request[1] for name in ("time", "start", "end"))


@allow("empty buckets times infinity", "quipu keeps no empty buckets; 3.5 makes NaN of those it was sent")
def _(pair, request, kind, ours, theirs):
    return kind == "value" and '"NaN"' in json.dumps(theirs) and re.search(r"[*/]", request[1][0][1]) and (
        '"buckets"' in json.dumps(theirs))


@allow("timestamp() of @ with offset", "3.5 takes the offset twice")
def _(pair, request, kind, ours, theirs):
    return kind in ("labels", "points", "value", "status") and re.search(r"timestamp\(.*(@.*offset|offset.*@)", request[1][0][1], re.S)


@allow("deviations by releases before 3.0", "they took NaN for none and summed with less care")
def _(pair, request, kind, ours, theirs):
    return pair.reduced and kind == "value" and re.search(r"std(dev|var)", request[1][0][1])


@allow("now", "without a time each server takes its own")
def _(pair, request, kind, ours, theirs):
    return kind in ("points", "value") and request[0].endswith("/query") and not dict(request[1]).get("time")


@allow("NaN as k", "[3.6] tells it")
def _(pair, request, kind, ours, theirs):
    return kind in ("status", "error text") and text_of(ours) in ("Parameter value is NaN", "Ratio value is NaN")


@allow("group_left after ignoring ()", "[3.9] prints it")
def _(pair, request, kind, ours, theirs):
    return kind == "data" and request[0].endswith("format_query") and re.sub(
        r"\s+", "", re.sub(r"ignoring \(\) group_(left|right) \(.*?\)", "", ours["data"])) == re.sub(
            r"\s+", "", theirs["data"])


DROPPING = re.compile(r"(\w+)\(|[-+*/%^]|atan2|bool")
KEEPING = ("last_over_time", "sort", "sort_desc", "sort_by_label", "sort_by_label_desc", "label_replace", "label_join",
           "topk", "bottomk", "limitk", "limit_ratio", "on", "by", "and", "or", "unless")


@allow("names that an operation has dropped", "a dropped name stays dropped; 3.5 with delayed removal forgets it in "
       "comparisons, count_values and last_over_time of a subquery")
def _(pair, request, kind, ours, theirs):
    text = request[1][0][1]
    if not any(m.group(1) not in KEEPING for m in DROPPING.finditer(text)):
        return False
    if kind == "status":
        return "same labelset" in text_of(ours)
    nameless = lambda answer: set(json.dumps({k: v for k, v in s["metric"].items() if k != "__name__"}, sort_keys=True)
                                  for s in answer["data"]["result"])
    known = [s["metric"] for s in theirs["data"]["result"]] if kind == "labels" else []
    return kind == "labels" and nameless(ours) == nameless(theirs) and not any(
        "__name__" in s["metric"] and s["metric"] not in known for s in ours["data"]["result"])


@allow("which of two errors", "an expression with two errors has one of them")
def _(pair, request, kind, ours, theirs):
    evaluation = ("found duplicate series", "multiple matches for labels", "vector cannot contain metrics",
                  "invalid smoothing factor", "invalid trend factor", "Scalar value", "Parameter value",
                  "unexpected error: runtime error")      # 3.5 itself fails at times
    return kind == "error text" and all(text_of(a).startswith(evaluation) for a in (ours, theirs))


@allow("operations on histograms under histogram_sum", "3.5 takes one that was read whole with one that was not")
def _(pair, request, kind, ours, theirs):
    return kind in ("labels", "points", "status", "notes", "value") and re.search(r"histogram_(sum|count|avg)\(.*([!=]=|[-+])", request[1][0][1])


@allow("ties in topk and bottomk", "which of equal values are chosen is chance")
def _(pair, request, kind, ours, theirs):
    return (kind in ("labels", "points", "value") or "same labelset" in text_of(theirs)) and any(
        pair.has_ties(e, request) for e in arguments(request[1][0][1], r"(topk|bottomk)\b"))


def arguments(text, call):
    """The last argument of every call whose name matches."""
    for found in re.finditer(call, text):
        at, depth, quote, comma, groups = found.end(), 0, "", 0, 0
        for i in range(at, len(text)):
            c = text[i]
            if quote:
                quote = "" if c == quote and text[i - 1] != "\\" else quote
            elif c in "\"'`":
                quote = c
            elif c in "([{":
                depth += 1
            elif c == "," and depth == 1 and not comma:
                comma = i
            elif c in ")]}":
                depth -= 1
                if not depth:
                    head = text[at:comma or i]
                    if re.match(r"\s*(by|without)\s*\($", head[:head.find("(") + 1]):
                        at, comma = i + 1, 0        # those were labels
                        continue
                    if comma:
                        yield text[comma + 1:i]
                    break


@allow("limitk of results", "the order of binary operations and functions in range queries is chance")
def _(pair, request, kind, ours, theirs):
    return kind in ("labels", "points", "value") and any(
        "(" in e or re.search(r" [-+*/%^=!<>a-z]", e) for e in arguments(request[1][0][1], r"limitk\b"))


@allow("place of a label in ON and GROUP", "behind a call in sum by (…) (…) 3.5 points at the parenthesis")
def _(pair, request, kind, ours, theirs):
    return kind == "error text" and "must not occur in ON and GROUP" in text_of(ours) and re.sub(
        r"\d+:\d+", "", text_of(ours)) == re.sub(r"\d+:\d+", "", text_of(theirs))


@allow("@ without a selector", "3.5 shows a number of its parser")
def _(pair, request, kind, ours, theirs):
    return kind == "error text" and re.sub(r'"<Item \d+>" ', "", text_of(theirs)) == older(text_of(ours))


@allow("sines of large numbers", "the last digit of the argument decides")
def _(pair, request, kind, ours, theirs):
    return kind == "value" and re.search(r"\b(sin|cos|tan)\(.*(e300|sinh|cosh|exp|\^)", request[1][0][1], re.S)


SURE_INFO = re.compile(r"info\((requests_total|temperature|load|up|size)([{][^}]*[}])?(, [{](env|rack)[^}]*[}])?\)")


@allow("info()", "later releases take names, @ and identity into account; 3.5 mixes series up in range queries")
def _(pair, request, kind, ours, theirs):
    text = request[1][0][1]
    return "info(" in text and not (request[0].endswith("/query") and SURE_INFO.fullmatch(text))


@allow("first bucket of histogram_fraction", "[3.8] begins at 0 or counts whole; 3.5 says NaN")
def _(pair, request, kind, ours, theirs):
    return "histogram_fraction" in request[1][0][1] and kind in ("value", "points", "labels")


@allow("ranges of the reference that its own instant answers refute", "3.5 changes histograms that steps "
       "share, and until [3.9] series of one label set could not take turns")
def _(pair, request, kind, ours, theirs):
    return (kind in ("labels", "points", "value") or kind == "status" and "same labelset" in text_of(theirs)
            ) and request[0].endswith("/query_range") and ours["status"] == "success" and not re.search(
        r"(start|end)\(\)", request[1][0][1]) and pair.reference_refutes_itself(request, ours)


def same_number(a, b, near=0.0):
    x, y = float(a), float(b)
    if x == y or (math.isnan(x) and math.isnan(y)):
        return True
    return abs(x - y) <= max(TOLERANCE * max(abs(x), abs(y)), near)


def same_histogram(a, b, near=0.0):
    if not (same_number(a["count"], b["count"]) and same_number(a["sum"], b["sum"])):
        return False
    x, y = a.get("buckets", []), b.get("buckets", [])
    return len(x) == len(y) and all(
        p[0] == q[0] and all(same_number(i, j) for i, j in zip(p[1:], q[1:])) for p, q in zip(x, y))


def points(series):
    """{time in ms: (kind, value)} of an element of a vector or a matrix"""
    out = {}
    for key, many in (("value", 0), ("histogram", 0), ("values", 1), ("histograms", 1)):
        got = series.get(key)
        if got is not None:
            for t, v in (got if many else [got]):
                out[round(float(t) * 1000), key.rstrip("s")] = v
    return out


def by_labels(result):
    return {json.dumps(s["metric"], sort_keys=True): points(s) for s in result}


def compare_results(ours, theirs, near):
    if ours["resultType"] != theirs["resultType"]:
        raise Difference("type", "%s against %s" % (ours["resultType"], theirs["resultType"]))
    if ours["resultType"] in ("scalar", "string"):
        a, b = ours["result"], theirs["result"]
        if a[0] != b[0] or (a[1] != b[1] and (ours["resultType"] == "string" or not same_number(a[1], b[1], near))):
            raise Difference("value", "%s against %s" % (a, b))
        return 1
    a, b = by_labels(ours["result"]), by_labels(theirs["result"])
    if len(a) != len(ours["result"]):
        raise Difference("labels", "quipu has one label set twice")
    if a.keys() != b.keys():
        raise Difference("labels", "only quipu: %s; only the reference: %s" % (
            sorted(a.keys() - b.keys())[:2], sorted(b.keys() - a.keys())[:2]))
    if ours["resultType"] == "matrix" and [s["metric"] for s in ours["result"]] != [
            s["metric"] for s in theirs["result"]]:
        raise Difference("order", "another order of series")
    n = 0
    for key, mine in a.items():
        other = b[key]
        if mine.keys() != other.keys():
            raise Difference("points", "%s: only quipu %s; only the reference %s" % (
                key, sorted(mine.keys() - other.keys())[:2], sorted(other.keys() - mine.keys())[:2]))
        for at, v in mine.items():
            n += 1
            if not (same_number if at[1] == "value" else same_histogram)(v, other[at], near):
                raise Difference("value", "%s at %d: quipu %s; the reference %s" % (key, at[0], v, other[at]))
    return n


POSITION = re.compile(r" \(\d+:\d+\)$")
# Notes that later releases add or word otherwise: (pattern, reason). What matches is left out on both sides.
NEWER_NOTES = (
    (re.compile(r"^PromQL warning: sort is ineffective for range queries .*"), "[3.12]"),
    (re.compile(r"^PromQL warning: conflicting counter resets .*"), "[3.7]"),
    (re.compile(r", from buckets .* to \S+(?= \()"), "[3.10] tells which buckets were not monotone"),
    (re.compile(r"(?<=#histogram_quantile\)) for metric name \"[^\"]*\""), "3.5 loses the name after the first step"),
    (re.compile(r" for metric name \"\""), "[3.7] leaves an unknown name out"),
)


def known_notes(notes):
    """Without what is newer than 3.5."""
    for pattern, _ in NEWER_NOTES:
        notes = {t for t in (pattern.sub("", s) for s in notes) if t}
    return sorted(notes)


def plain_notes(answer):
    """All, without their positions."""
    return {POSITION.sub("", s) for s in known_notes(answer.get("warnings", []) + answer.get("infos", []))}


def compare_notes(ours, theirs):
    for key in ("warnings", "infos"):
        a, b = known_notes(ours.get(key, [])), known_notes(theirs.get(key, []))
        # Which are left out beyond ten is chance, their number is not.
        if a == b or len(a) == len(b) == 11:
            continue
        p, q = (sorted({POSITION.sub("", s) for s in x}) for x in (a, b))
        only = lambda x, y: [s for s in x if s not in y]
        kind = "position of notes" if p == q else "notes"
        raise Difference(kind, "%s: only quipu %s; only the reference %s" % (key, only(a, b), only(b, a)))


def compare_answers(ours, theirs, loosely=False):
    """ours, theirs: (status, JSON). Returns the number of points compared, or raises Difference.
    loosely: without what is told in words, and with an absolute tolerance."""
    if ours[0] != theirs[0]:
        raise Difference("status", "quipu %d %s; the reference %d %s" % (
            ours[0], text_of(ours[1])[:300], theirs[0], text_of(theirs[1])[:300]))
    a, b = ours[1], theirs[1]
    if a.get("errorType") != b.get("errorType"):
        raise Difference("error type", "quipu %s; the reference %s" % (a.get("errorType"), b.get("errorType")))
    if text_of(a) != text_of(b) and not loosely:
        raise Difference("error text", "quipu: %s\n      reference: %s" % (text_of(a), text_of(b)))
    n = 0
    if isinstance(a.get("data"), dict) and "resultType" in a["data"]:
        n = compare_results(a["data"], b["data"], TOLERANCE if loosely else 0.0)
    elif a.get("data") != b.get("data"):
        x, y = a.get("data"), b.get("data")
        if isinstance(x, list) and isinstance(y, list):
            x, y = ([json.dumps(e, sort_keys=True) for e in z] for z in (x, y))
            if sorted(x) == sorted(y):
                return len(x)
            x, y = [e for e in x if e not in y], [e for e in y if e not in x]
        raise Difference("data", "quipu %s; the reference %s" % (str(x)[:400], str(y)[:400]))
    if not loosely:
        compare_notes(a, b)
    return n


class Pair:
    """Both servers."""

    def __init__(self, quipu, reference, reduced):
        self.quipu, self.reference, self.reduced = quipu, reference, reduced
        self.n_points = self.n_errors = self.n_empty = self.n_asked = 0
        self.allowed = {}

    def ask(self, request):
        """request: (path, [(name, value)...])"""
        path, params = request
        answers = []
        post = path in ("/api/v1/query", "/api/v1/query_range")
        for server in (self.quipu, self.reference):
            body = urllib.parse.urlencode(params)
            if post:
                status, text = server.request("POST", path, body, {
                    "Content-Type": "application/x-www-form-urlencoded"})
            else:
                status, text = server.request("GET", path + ("?" + body if body else ""))
            try:
                answers.append((status, json.loads(text)))
            except ValueError:
                answers.append((status, {"error": text.decode(errors="replace")}))
        return answers

    def has_ties(self, expr, request):
        """Whether two elements of expr have one value at a step of the request."""
        path, params = request
        answers = self.ask((path, [("query", "count(%s) > count(count_values(\"tie\", %s))" % (expr, expr))] + params[1:]))
        return any(a.get("data", {}).get("result") for _, a in answers)

    def reference_refutes_itself(self, request, ours):
        """Whether both servers agree at each step alone, and quipu's range is what it says at its steps."""
        params = dict(request[1])
        start, end, step = (round(float(params[k]) * 1000) for k in ("start", "end", "step"))
        mine = by_labels(ours["data"]["result"])
        for t in range(start, end + 1, step):
            answers = self.ask(("/api/v1/query", [request[1][0], ("time", "%.3f" % (t / 1000))]))
            try:
                compare_answers(*answers, self.reduced)
                at = {key: p for key, all_points in mine.items()
                      if (p := {k: v for k, v in all_points.items() if k[0] == t})}
                if at != by_labels(answers[0][1]["data"]["result"]):
                    return False
            except (Difference, KeyError):
                return False
        return True

    def check(self, request, count=True):
        """The difference that the request shows, or None."""
        ours, theirs = self.ask(request)
        try:
            n = compare_answers(ours, theirs, self.reduced)
        except Difference as difference:
            name = self.excuse(request, difference, ours[1], theirs[1])
            if name and count:
                self.allowed[name] = self.allowed.get(name, 0) + 1
            return None if name else difference
        if count:
            self.n_asked += 1
            self.n_points += n
            self.n_errors += ours[0] != 200
            self.n_empty += ours[0] == 200 and not n
        return None

    def excuse(self, request, difference, ours, theirs):
        """The name of what allows the difference, or None."""
        if not request[1]:
            return None
        for name, _, test in ALLOWED:
            if test(self, request, difference.kind, ours, theirs):
                return name
        # 3.5 at times returns histograms that another query writes to.
        for _ in range(2):
            again, other = self.ask(request)
            if again[1].get("data") == ours.get("data") and other[1].get("data") != theirs.get("data"):
                try:
                    compare_answers(again, other, self.reduced)
                    return "answers of the reference that are others when asked again"
                except Difference:
                    pass
        return None


def query_request(text, at):
    if len(at) == 1:
        return "/api/v1/query", [("query", text), ("time", "%.3f" % at[0])]
    return "/api/v1/query_range", [("query", text), ("start", "%.3f" % at[0]), ("end", "%.3f" % at[1]),
                                   ("step", "%g" % at[2])]


class Report:
    def __init__(self):
        self.seen = {}

    def add(self, difference, request, shape):
        key = difference.kind, request[0], shape
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] == 1:
            print("\nDIFFERENT %s: %s\n    %s\n      %s" % (
                difference.kind, request[0].replace("/api/v1/", ""),
                "  ".join("%s=%s" % p for p in request[1]), difference.text[:1500]), flush=True)


def shape_of(text):
    """Expressions of one shape are told once: the words without labels, numbers and strings."""
    text = re.sub(r'"(\\.|[^"\\])*"|[0-9.]+(ms|[smhdwy])?', "", text)
    return " ".join(sorted(set(re.findall(r"[a-z_]{2,}|[-+*/%^<>=!]+", text))))


def check_expressions(pair, grammar, n, report, verbose):
    for i in range(n):
        tree = grammar.expression()
        text = tree.text()
        for at in (grammar.instant(), grammar.range()):
            if verbose:
                print(i, at, text, flush=True)
            difference = pair.check(query_request(text, at))
            if difference is None:
                continue
            same = lambda t: (pair.check(query_request(t, at), False) or Difference("", "")).kind == difference.kind
            small = shrunk(tree, same)
            request = query_request(small, at)
            again = pair.check(request, False) or difference
            report.add(again, request, shape_of(small))


def check_requests(pair, grammar, n, report):
    for _ in range(n):
        request = grammar.request()
        difference = pair.check(request)
        if difference:
            report.add(difference, request, shape_of(" ".join(v for k, v in request[1])) if len(request[1]) == 1
                       else str([k for k, v in request[1]]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"))
    parser.add_argument("--n", type=int, default=2000, help="expressions")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--base", type=int, default=int(time.time()) // 60 * 60 - SPAN - 600,
                        help="time of the first samples, in s since 1970; they end %d s later" % SPAN)
    parser.add_argument("--features", default=FEATURES, help="of Prometheus")
    parser.add_argument("--reduced", action="store_true", help="what releases since 2.42 agree on alone")
    parser.add_argument("--ports", type=int, nargs=2, help="of quipud and of Prometheus; else free ones")
    parser.add_argument("--query", help="asks this one expression alone")
    parser.add_argument("--at", type=float, nargs="+", help="its time, or start, end and step")
    parser.add_argument("--keep", action="store_true", help="leave the servers running until Enter is pressed")
    parser.add_argument("--verbose", action="store_true")
    o = parser.parse_args()
    if not o.prometheus:
        sys.exit("prometheus is not installed")
    print("seed %d, base %d" % (o.seed, o.base))
    qc.print_version(o.prometheus)
    folder = tempfile.mkdtemp(prefix="quipu-differential-")
    file = lambda name: os.path.join(folder, name)
    with open(file("prometheus.yml"), "w") as f:
        f.write(CONFIG)
    ports = o.ports or (qc.free_port(), qc.free_port())
    with qc.Process([o.quipud, "--data-dir", file("quipu"), "--listen", "127.0.0.1:%d" % ports[0], "--retention", "0"],
                    file("quipud.log"), ports[0]) as quipud, \
         qc.Process([o.prometheus, "--config.file=" + file("prometheus.yml"), "--storage.tsdb.path=" + file("prometheus"),
                     "--web.enable-remote-write-receiver", "--web.listen-address=127.0.0.1:%d" % ports[1],
                     "--log.level=warn"] + ([] if o.reduced else ["--enable-feature=" + o.features]),
                    file("prometheus.log"), ports[1]) as reference:
        quipud.wait_ready()
        reference.wait_ready()
        pair = Pair(qc.Client(ports[0]), qc.Client(ports[1]), o.reduced)
        write_data((pair.quipu, pair.reference), o.seed, o.base, SPAN, o.reduced)
        report = Report()
        if o.query:
            request = query_request(o.query, o.at or (o.base + SPAN - 100,))
            for answer in pair.ask(request):
                print(json.dumps(answer, ensure_ascii=False))
            print(pair.check(request))
        else:
            grammar = Grammar(o.seed, o.base, SPAN, o.reduced)
            check_expressions(pair, grammar, o.n, report, o.verbose)
            check_requests(pair, grammar, o.n // 4, report)
        if o.keep:
            print(ports)
            input("Enter ends the servers ")
        pair.quipu.close()
        pair.reference.close()
        if quipud.terminate() != 0:
            print(quipud.tail())
            sys.exit("quipud failed")
    shutil.rmtree(folder)
    print("\n%d expressions; %d answers compared with %d points (%d errors, %d empty)" % (
        o.n, pair.n_asked, pair.n_points, pair.n_errors, pair.n_empty))
    for name, count in sorted(pair.allowed.items()):
        print("allowed %d times: %s" % (count, name))
    if report.seen:
        print("%d kinds of difference, %d in all; replay with --seed %d --base %d" % (
            len(report.seen), sum(report.seen.values()), o.seed, o.base))
        sys.exit(1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Self test of sqsd.  Standard library only; takes a few seconds.

Starts the server on a free port, talks to it over plain sockets where the
bytes on the wire matter and through http.client otherwise, and checks its
counts against what was done.  Prints "N passed, N failed".
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
# seconds after which what should not take long is given up
TIMEOUT = 60
KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1"
passed = failed = 0


def check(what, good, detail=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAILED: %s %s" % (what, detail), flush=True)


def equal(what, got, wanted):
    check(what, got == wanted, "got %r, wanted %r" % (got, wanted))


def md5(data):
    return hashlib.md5(data if isinstance(data, bytes) else data.encode()).hexdigest()


class Reply:
    def __init__(self, status, headers, raw):
        self.status, self.headers, self.raw = status, headers, raw
        try:
            self.json = json.loads(raw)
        except ValueError:
            self.json = None

    def type(self):
        return (self.json or {}).get("__type", "").split("#")[-1]


def sign(headers, body, key=KEY, secret=SECRET, when=None, region=REGION, service="sqs",
         leave_out=()):
    now = when or datetime.datetime.now(datetime.timezone.utc)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = dict(headers, **{"X-Amz-Date": stamp})
    names = sorted(n.lower() for n in headers if n.lower() not in leave_out)
    lower = {n.lower(): " ".join(v.split()) for n, v in headers.items()}
    canonical = "POST\n/\n\n%s\n%s\n%s" % (
        "".join("%s:%s\n" % (n, lower[n]) for n in names), ";".join(names),
        hashlib.sha256(body).hexdigest())
    scope = "%s/%s/%s/aws4_request" % (stamp[:8], region, service)
    to_sign = "AWS4-HMAC-SHA256\n%s\n%s\n%s" % (
        stamp, scope, hashlib.sha256(canonical.encode()).hexdigest())
    k = ("AWS4" + secret).encode()
    for part in (stamp[:8], region, service, "aws4_request", to_sign):
        k = hmac.new(k, part.encode(), hashlib.sha256).digest()
    headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" \
        % (key, scope, ";".join(names), k.hex())
    return headers


class Server:
    def __init__(self, *args, tls=None):
        self.dir = tempfile.TemporaryDirectory()
        port_file = os.path.join(self.dir.name, "port")
        self.process = subprocess.Popen(
            [os.path.join(HERE, "sqsd"), "--port-file", port_file, *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.time() + TIMEOUT
        while not os.path.exists(port_file) and time.time() < deadline:
            if self.process.poll() is not None:
                raise SystemExit("sqsd did not start: " + self.process.stderr.read())
            time.sleep(0.01)
        self.port = int(open(port_file).read())
        self.host = "127.0.0.1:%d" % self.port
        self.tls = tls

    def stop(self):
        self.process.terminate()
        out, err = self.process.communicate(timeout=TIMEOUT)
        equal("exit status of sqsd", self.process.returncode, 0)
        equal("nothing on stderr", err, "")
        self.dir.cleanup()
        return out

    def connect(self, timeout=TIMEOUT):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                               context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=b"", headers=None, timeout=TIMEOUT):
        c = self.connect(timeout)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return Reply(r.status, r.headers, r.read())
        finally:
            c.close()

    def headers(self, action):
        return {"Host": self.host, "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": "AmazonSQS." + action}

    def call(self, action, timeout=TIMEOUT, **members):
        if "queue" in members:
            members["QueueUrl"] = "http://%s/000000000000/%s" % (self.host, members.pop("queue"))
        return self.request("POST", "/", json.dumps(members).encode(), self.headers(action),
                            timeout)

    def admin(self, method, path, timeout=TIMEOUT, **members):
        return self.request(method, "/_sqsd/" + path,
                            json.dumps(members).encode() if members else b"", timeout=timeout)

    def stats(self, queue=None):
        s = self.admin("GET", "stats").json
        return s["queues"][queue] if queue else s

    def await_poll(self, queue, n=1):
        deadline = time.time() + TIMEOUT
        while self.stats(queue)["open_polls"] != n:
            if time.time() > deadline:
                raise TimeoutError("%s: not %d open polls" % (queue, n))
            time.sleep(0.01)

    def fault(self, kind, **members):
        return self.admin("POST", "fault", kind=kind, **members).json["id"]

    def clear(self):
        self.admin("POST", "reset")

    def send(self, queue, body="x", **members):
        return self.call("SendMessage", queue=queue, MessageBody=body, **members)

    def receive(self, queue, n=10, **members):
        return self.call("ReceiveMessage", queue=queue, MaxNumberOfMessages=n,
                         **members).json.get("Messages", [])

    def delete(self, queue, handle):
        return self.call("DeleteMessage", queue=queue, ReceiptHandle=handle)

    def change(self, queue, handle, seconds):
        return self.call("ChangeMessageVisibility", queue=queue, ReceiptHandle=handle,
                         VisibilityTimeout=seconds)

    def advance(self, seconds):
        self.admin("POST", "advance", seconds=seconds)


def refused(what, reply, shape, status=400, text=None, query=None):
    equal(what + ": type", reply.type(), shape)
    equal(what + ": status", reply.status, status)
    if text is not None:
        check(what + ": text", text in reply.json.get("message", ""), reply.raw)
    if query is not None:
        equal(what + ": query error", reply.headers["x-amzn-query-error"], query)


def bodies(messages):
    return [m["Body"] for m in messages]


def test_messages(s):
    r = s.send("q", "héllo\n\"q\"")
    equal("send status", r.status, 200)
    equal("body md5", r.json["MD5OfMessageBody"], "73b68c7458b757f2dc27ed0fbeaa1299")
    equal("send members", sorted(r.json), ["MD5OfMessageBody", "MessageId"])
    equal("content type", r.headers["Content-Type"], "application/x-amz-json-1.0")
    check("request id", len(r.headers["x-amzn-RequestId"]) == 36)
    check("date", r.headers["Date"].endswith("GMT"))
    m = s.receive("q")
    equal("received", bodies(m), ["héllo\n\"q\""])
    equal("bare members", sorted(m[0]), ["Body", "MD5OfBody", "MessageId", "ReceiptHandle"])
    equal("same id", m[0]["MessageId"], r.json["MessageId"])
    equal("empty receive", s.call("ReceiveMessage", queue="q").raw, b"{}")
    equal("delete", s.delete("q", m[0]["ReceiptHandle"]).status, 200)
    equal("delete twice", s.delete("q", m[0]["ReceiptHandle"]).status, 200)
    st = s.stats("q")
    equal("counts", [st[n] for n in ("sent", "received", "first_deliveries", "deleted",
                                     "delete_unknown", "visible", "in_flight", "empty_receives")],
          [1, 1, 1, 1, 1, 0, 0, 1])
    equal("calls", st["calls"], {"SendMessage": 1, "ReceiveMessage": 2, "DeleteMessage": 2})

    attrs = {"City": {"DataType": "String", "StringValue": "Any City"},
             "Img": {"DataType": "Binary.png", "BinaryValue": "AAH/"},
             "Population": {"DataType": "Number", "StringValue": "1250800"}}
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    r = s.send("q", "hello", MessageAttributes=attrs, MessageSystemAttributes={
        "AWSTraceHeader": {"DataType": "String", "StringValue": trace}}, MessageGroupId="tenant")
    equal("attribute md5", r.json["MD5OfMessageAttributes"], "aaf174cba26b4ad89577b8038f1c1659")
    equal("system md5", r.json["MD5OfMessageSystemAttributes"], "5ae4d5d7636402d80f4eb6d213245a88")
    m = s.receive("q", MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"],
                  VisibilityTimeout=0)[0]
    equal("attributes back", m["MessageAttributes"], attrs)
    equal("attribute md5 back", m["MD5OfMessageAttributes"], "aaf174cba26b4ad89577b8038f1c1659")
    equal("trace", m["Attributes"]["AWSTraceHeader"], trace)
    equal("group on a standard queue", m["Attributes"]["MessageGroupId"], "tenant")
    equal("receive count", m["Attributes"]["ApproximateReceiveCount"], "1")
    check("system attributes", set(m["Attributes"]) == {
        "SenderId", "SentTimestamp", "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp", "AWSTraceHeader", "MessageGroupId"})
    m = s.receive("q", MessageAttributeNames=["Ci.*"], AttributeNames=["ApproximateReceiveCount"])[0]
    equal("filtered attributes", list(m["MessageAttributes"]), ["City"])
    equal("filtered system attributes", m["Attributes"], {"ApproximateReceiveCount": "2"})
    check("filtered md5", m["MD5OfMessageAttributes"] != "aaf174cba26b4ad89577b8038f1c1659")
    s.clear()
    for name, value, digest in (("Foo", "Bar", "ae7155c6026991b6d54b11589678bf9c"),
                                ("MyAttribute", "foobar", "adb59cd4678ea5a855436b949cd07ab6")):
        r = s.send("q", MessageAttributes={name: {"DataType": "String", "StringValue": value}})
        equal("recorded md5 " + name, r.json["MD5OfMessageAttributes"], digest)
    s.clear()


def test_batches(s):
    r = s.call("SendMessageBatch", queue="q", Entries=[
        {"Id": "a", "MessageBody": "1"}, {"Id": "b", "MessageBody": "\u0001"},
        {"Id": "c", "MessageBody": ""}, {"Id": "d", "MessageBody": "4", "DelaySeconds": 901},
        {"Id": "e", "MessageBody": "5"}])
    equal("batch: sent", [e["Id"] for e in r.json["Successful"]], ["a", "e"])
    equal("batch: failed", [(e["Id"], e["Code"], e["SenderFault"]) for e in r.json["Failed"]],
          [("b", "InvalidMessageContents", True), ("c", "MissingParameter", True),
           ("d", "InvalidParameterValue", True)])
    m = s.receive("q")
    equal("batch: received", bodies(m), ["1", "5"])
    r = s.call("ChangeMessageVisibilityBatch", queue="q", Entries=[
        {"Id": "a", "ReceiptHandle": m[0]["ReceiptHandle"], "VisibilityTimeout": 60},
        {"Id": "b", "ReceiptHandle": "junk", "VisibilityTimeout": 60}])
    equal("change batch", ([e["Id"] for e in r.json["Successful"]],
                           [e["Code"] for e in r.json["Failed"]]), (["a"], ["ReceiptHandleIsInvalid"]))
    r = s.call("DeleteMessageBatch", queue="q", Entries=[
        {"Id": str(i), "ReceiptHandle": x["ReceiptHandle"]} for i, x in enumerate(m)])
    equal("delete batch", r.json, {"Successful": [{"Id": "0"}, {"Id": "1"}]})
    equal("book", sorted(x["state"] for x in s.admin("GET", "messages?queue=q").json),
          ["deleted", "deleted"])
    e = {"MessageBody": "x"}
    refused("empty batch", s.call("SendMessageBatch", queue="q", Entries=[]), "EmptyBatchRequest",
            query="AWS.SimpleQueueService.EmptyBatchRequest;Sender")
    refused("too many", s.call("SendMessageBatch", queue="q",
                               Entries=[dict(e, Id=str(i)) for i in range(11)]),
            "TooManyEntriesInBatchRequest", text="You have sent 11.")
    refused("repeated id", s.call("DeleteMessageBatch", queue="q", Entries=[
        {"Id": "a", "ReceiptHandle": "x"}] * 2), "BatchEntryIdsNotDistinct", text="Id a repeated.")
    refused("bad id", s.call("SendMessageBatch", queue="q", Entries=[dict(e, Id="a b")]),
            "InvalidBatchEntryId")
    refused("batch too long", s.call("SendMessageBatch", queue="q", Entries=[
        {"Id": str(i), "MessageBody": "x" * 600000} for i in range(2)]), "BatchRequestTooLong",
        text="Batch requests cannot be longer than 1048576 bytes. You have sent 1200000 bytes.")
    s.clear()


def test_validation(s):
    refused("no queue", s.send("nope"), "QueueDoesNotExist", text="The specified queue does not exist.",
            query="AWS.SimpleQueueService.NonExistentQueue;Sender")
    refused("no QueueUrl", s.call("SendMessage", MessageBody="x"), "MissingRequiredParameterException",
            query="MissingParameter;Sender")
    refused("unknown action", s.call("TagQueue", queue="q"), "UnknownOperationException", 404)
    refused("not JSON", s.request("POST", "/", b"{]", s.headers("SendMessage")),
            "SerializationException")
    refused("wrong type", s.send("q", 5), "SerializationException")
    refused("number as string", s.send("q", DelaySeconds="5"), "SerializationException")
    refused("empty body", s.send("q", ""), "MissingRequiredParameterException", text="MessageBody")
    for bad in ("\x00", "a\x08", "\x0b", "\x1f", "\ufffe", "x\uffff"):
        refused("illegal %r" % bad, s.send("q", bad), "InvalidMessageContents")
    for good in ("\t\r\n", "\x7f\x9f", "\ufffd", "\U0001fffe", "\U0001f600", "\ue000"):
        r = s.send("q", good)
        equal("legal %r" % good, r.json.get("MD5OfMessageBody"), md5(good))
    s.clear()
    equal("1 MiB", s.send("q", "x" * 1048576).status, 200)
    refused("1 MiB + 1", s.send("q", "x" * 1048577), "InvalidParameterValueException",
            text="Message must be shorter than 1048576 bytes.")
    refused("attributes count", s.send("q", "x" * 1048576, MessageAttributes={
        "a": {"DataType": "String", "StringValue": "b"}}), "InvalidParameterValueException")
    equal("1 MiB back", len(s.receive("q")[0]["Body"]), 1048576)
    refused("delay", s.send("q", DelaySeconds=901), "InvalidParameterValueException")
    refused("delay -1", s.send("q", DelaySeconds=-1), "InvalidParameterValueException")
    for name, value in (("MaxNumberOfMessages", 11), ("MaxNumberOfMessages", 0),
                        ("WaitTimeSeconds", 21), ("VisibilityTimeout", 43201)):
        refused("%s=%d" % (name, value), s.call("ReceiveMessage", queue="q", **{name: value}),
                "InvalidParameterValueException", text=name)
    refused("system attribute", s.call("ReceiveMessage", queue="q", AttributeNames=["X"]),
            "InvalidAttributeName")
    for what, attr in (("empty", {"a": {"DataType": "String", "StringValue": ""}}),
                       ("type", {"a": {"DataType": "Float", "StringValue": "1"}}),
                       ("number", {"a": {"DataType": "Number", "StringValue": "abc"}}),
                       ("name", {"AWS.a": {"DataType": "String", "StringValue": "1"}}),
                       ("dots", {"a..b": {"DataType": "String", "StringValue": "1"}}),
                       ("char", {"a b": {"DataType": "String", "StringValue": "1"}}),
                       ("value", {"a": {"DataType": "String", "StringValue": "\x01"}}),
                       ("eleven", {"a%d" % i: {"DataType": "String", "StringValue": "1"}
                                   for i in range(11)})):
        refused("attribute " + what, s.send("q", MessageAttributes=attr),
                "InvalidParameterValueException")
    refused("dedup id on standard", s.send("q", MessageDeduplicationId="d"),
            "InvalidParameterValueException")
    refused("group with a blank", s.send("q", MessageGroupId="a b"), "InvalidParameterValueException")
    refused("garbage handle", s.delete("q", "junk"), "ReceiptHandleIsInvalid", 404, text='"junk"')
    refused("no handle", s.call("DeleteMessage", queue="q"), "MissingRequiredParameterException")
    refused("change garbage", s.change("q", "junk", 1), "ReceiptHandleIsInvalid", 404)
    s.clear()


def test_visibility(s):
    s.send("q", "a")
    m1 = s.receive("q", VisibilityTimeout=10)[0]
    s.advance(9)
    equal("still leased", s.receive("q"), [])
    s.advance(1.5)
    m2 = s.receive("q", VisibilityTimeout=10)[0]
    equal("redelivered", m2["MessageId"], m1["MessageId"])
    check("new handle", m1["ReceiptHandle"] != m2["ReceiptHandle"])
    equal("stale delete", s.delete("q", m1["ReceiptHandle"]).status, 200)
    st = s.stats("q")
    equal("stale counted", [st[n] for n in ("delete_stale", "deleted", "in_flight", "expired_leases",
                                            "redelivered")], [1, 0, 1, 1, 1])
    refused("change stale", s.change("q", m1["ReceiptHandle"], 5), "InvalidParameterValueException",
            text="not available for visibility timeout change")
    equal("extend", s.change("q", m2["ReceiptHandle"], 100).status, 200)
    s.advance(50)
    equal("extended", s.receive("q"), [])
    refused("beyond 12 h", s.change("q", m2["ReceiptHandle"], 43200),
            "InvalidParameterValueException", text="Total VisibilityTimeout")
    equal("release", s.change("q", m2["ReceiptHandle"], 0).status, 200)
    refused("change when visible", s.change("q", m2["ReceiptHandle"], 5), "MessageNotInflight")
    m3 = s.receive("q", VisibilityTimeout=1)[0]
    s.advance(2)
    refused("change late", s.change("q", m3["ReceiptHandle"], 5), "InvalidParameterValueException")
    equal("late delete works", s.delete("q", m3["ReceiptHandle"]).status, 200)
    equal("late delete deleted", s.stats("q")["deleted"], 1)
    refused("change deleted", s.change("q", m3["ReceiptHandle"], 5), "InvalidParameterValueException",
            text="Message does not exist")
    s.send("q", "later", DelaySeconds=20)
    equal("delayed", (s.receive("q"), s.stats("q")["delayed"]), ([], 1))
    s.advance(21)
    equal("delay over", bodies(s.receive("q")), ["later"])
    s.clear()
    s.send("q", "old")
    s.advance(345601)
    equal("retention", (s.receive("q"), s.stats("q")["retention_expired"]), ([], 1))
    s.clear()


def test_long_poll(s):
    result = []

    def poll(wait):
        start = time.time()
        messages = s.receive("q", WaitTimeSeconds=wait)
        result.append((time.time() - start, bodies(messages)))

    t = threading.Thread(target=poll, args=(20,))
    t.start()
    s.await_poll("q")
    time.sleep(0.1)
    s.send("q", "wake")
    t.join()
    check("woken by a send", result[0][1] == ["wake"], result)
    s.clear()
    s.send("q", "again")
    m = s.receive("q", VisibilityTimeout=1)[0]
    poll(20)
    check("woken by the end of a lease", result[1][1] == ["again"] and 0.5 < result[1][0], result)
    s.clear()
    t = threading.Thread(target=poll, args=(20,))
    t.start()
    s.await_poll("q")
    s.admin("POST", "fill", queue="q", count=25, body="m{i}")
    t.join()
    equal("woken by fill", result[2][1], ["m%d" % i for i in range(1, 11)])
    s.clear()
    poll(1)
    check("empty poll", result[3][1] == [] and result[3][0] > 0.9, result)
    equal("no open polls", (s.stats("q")["open_polls"], s.stats("q")["max_open_polls"]), (0, 1))

    # A client that hangs up gets nothing.
    c = socket.create_connection(("127.0.0.1", s.port))
    body = json.dumps({"QueueUrl": "x/q", "WaitTimeSeconds": 20}).encode()
    c.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    s.await_poll("q")
    c.close()
    s.await_poll("q", 0)
    s.send("q", "alive")
    equal("nothing lost", s.stats("q")["visible"], 1)
    equal("abandoned", s.stats("q")["abandoned_polls"], 1)
    s.clear()

    # The queue's own waiting time, and an explicit 0
    s.call("SetQueueAttributes", queue="q", Attributes={"ReceiveMessageWaitTimeSeconds": "4"})
    s.call("ReceiveMessage", queue="q", WaitTimeSeconds=0)
    equal("explicit 0", s.stats("q")["max_open_polls"], 0)
    start = time.time()
    s.call("ReceiveMessage", queue="q")
    check("queue's wait", time.time() - start > 3.9)
    s.call("SetQueueAttributes", queue="q", Attributes={"ReceiveMessageWaitTimeSeconds": "0"})
    s.clear()


def test_fifo(s):
    def put(body, group="g", **members):
        return s.send("f.fifo", body, MessageGroupId=group,
                      MessageDeduplicationId=members.pop("dedup", body), **members)

    refused("fifo: no group", s.send("f.fifo", "x", MessageDeduplicationId="d"),
            "MissingRequiredParameterException", text="MessageGroupId")
    refused("fifo: no dedup", s.send("f.fifo", "x", MessageGroupId="g"),
            "InvalidParameterValueException", text="ContentBasedDeduplication")
    refused("fifo: delay", put("x", DelaySeconds=2), "InvalidParameterValueException",
            text="not valid for this queue type")
    equal("fifo: delay 0", put("zero", DelaySeconds=0).status, 200)
    refused("fifo: batch without group", s.call("SendMessageBatch", queue="f.fifo", Entries=[
        {"Id": "a", "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "1"},
        {"Id": "b", "MessageBody": "y", "MessageDeduplicationId": "2"}]),
        "InvalidParameterValueException")
    equal("fifo: whole batch refused", s.stats("f.fifo")["sent"], 1)
    s.clear()

    r1, r2 = put("foo"), put("foo")
    equal("dedup: same id", r1.json["MessageId"], r2.json["MessageId"])
    equal("dedup: same sequence", r1.json["SequenceNumber"], r2.json["SequenceNumber"])
    equal("sequence digits", len(r1.json["SequenceNumber"]), 20)
    put("bar")
    r = put("baz")
    check("sequence rises", r.json["SequenceNumber"] > r1.json["SequenceNumber"])
    put("other", "h")
    m = s.receive("f.fifo", 10, MessageSystemAttributeNames=["All"], VisibilityTimeout=10)
    equal("order, groups together", bodies(m), ["foo", "bar", "baz", "other"])
    equal("fifo attributes", [m[0]["Attributes"][n] for n in
                              ("MessageGroupId", "MessageDeduplicationId", "SequenceNumber")],
          ["g", "foo", r1.json["SequenceNumber"]])
    put("late")
    equal("group blocked", s.receive("f.fifo"), [])
    s.change("f.fifo", m[2]["ReceiptHandle"], 1000)
    s.advance(11)
    m2 = s.receive("f.fifo", 10, VisibilityTimeout=10)
    equal("only what is before the extended one", bodies(m2), ["foo", "bar", "other"])
    refused("fifo: expired handle", s.delete("f.fifo", m[0]["ReceiptHandle"]),
            "InvalidParameterValueException", text="The receipt handle has expired")
    s.change("f.fifo", m2[0]["ReceiptHandle"], 1000)
    s.advance(11)
    equal("head extended: nothing of its group", bodies(s.receive("f.fifo")), ["other"])
    equal("extended handle deletes", s.delete("f.fifo", m2[0]["ReceiptHandle"]).status, 200)
    equal("then the next", bodies(s.receive("f.fifo")), ["bar"])
    equal("delete in the middle", s.delete("f.fifo", m[2]["ReceiptHandle"]).status, 200)
    equal("fifo: delete twice", s.delete("f.fifo", m[2]["ReceiptHandle"]).status, 200)
    s.advance(60)
    equal("rest in order", [b for b in bodies(s.receive("f.fifo")) if b != "other"], ["bar", "late"])
    s.advance(301)
    check("dedup window over", put("foo").json["MessageId"] != r1.json["MessageId"])
    s.clear()

    # Deleting the only message in flight wakes a poll on its group.
    put("1", dedup="w1"), put("2", dedup="w2")
    m = s.receive("f.fifo", 1)
    got = []
    t = threading.Thread(target=lambda: got.extend(s.receive("f.fifo", WaitTimeSeconds=20)))
    t.start()
    s.await_poll("f.fifo")
    s.delete("f.fifo", m[0]["ReceiptHandle"])
    t.join()
    equal("poll woken by a delete", bodies(got), ["2"])
    s.clear()

    # Content-based deduplication
    for _ in range(2):
        s.send("c.fifo", "same", MessageGroupId="g")
    equal("content dedup", (s.stats("c.fifo")["sent"], s.stats("c.fifo")["deduplicated"]), (1, 1))
    s.call("SetQueueAttributes", queue="c.fifo", Attributes={"DeduplicationScope": "messageGroup"})
    for g in "xxy":
        s.send("c.fifo", "scoped", MessageGroupId=g)
    equal("scope group", s.stats("c.fifo")["sent"], 3)
    s.clear()
    s.admin("POST", "fill", queue="c.fifo", count=6, body="n{i}", start=10, groups=2)
    m = s.receive("c.fifo", MessageSystemAttributeNames=["MessageGroupId"])
    equal("fill of groups", [(x["Body"], x["Attributes"]["MessageGroupId"]) for x in m],
          [("n10", "g0"), ("n12", "g0"), ("n14", "g0"), ("n11", "g1"), ("n13", "g1"), ("n15", "g1")])
    s.clear()


def test_dlq(s):
    r = s.send("src", "poison")
    for _ in range(2):
        equal("before the limit", len(s.receive("src", VisibilityTimeout=1)), 1)
        s.advance(2)
    equal("moved", s.receive("src"), [])
    m = s.receive("dead", MessageSystemAttributeNames=["All"])[0]
    equal("same id in the DLQ", m["MessageId"], r.json["MessageId"])
    equal("count goes on", m["Attributes"]["ApproximateReceiveCount"], "3")
    equal("source", m["Attributes"]["DeadLetterQueueSourceArn"],
          "arn:aws:sqs:us-east-1:000000000000:src")
    equal("dead_lettered", s.stats("src")["dead_lettered"], 1)
    refused("missing DLQ", s.call("SetQueueAttributes", queue="q", Attributes={
        "RedrivePolicy": '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:0:none","maxReceiveCount":3}'}),
        "InvalidParameterValueException", text="does not exist")
    s.clear()


def test_queues(s):
    u = s.call("GetQueueUrl", QueueName="q")
    equal("url", u.json["QueueUrl"], "http://%s/000000000000/q" % s.host)
    refused("no url", s.call("GetQueueUrl", QueueName="none"), "QueueDoesNotExist")
    u = s.call("GetQueueUrl", QueueName="q", QueueOwnerAWSAccountId="000000000000")
    equal("url by owner", u.json["QueueUrl"], "http://%s/000000000000/q" % s.host)
    refused("no url of another account", s.call("GetQueueUrl", QueueName="q", QueueOwnerAWSAccountId="111122223333"),
            "QueueDoesNotExist")
    a = s.call("GetQueueAttributes", queue="q", AttributeNames=["All"]).json["Attributes"]
    equal("attributes", (a["VisibilityTimeout"], a["QueueArn"], a["MaximumMessageSize"]),
          ("30", "arn:aws:sqs:us-east-1:000000000000:q", "1048576"))
    equal("no names", s.call("GetQueueAttributes", queue="q").json, {})
    refused("bad name", s.call("GetQueueAttributes", queue="q", AttributeNames=["X"]),
            "InvalidAttributeName")
    r = s.call("CreateQueue", QueueName="new", Attributes={"VisibilityTimeout": "7"})
    check("created", r.json["QueueUrl"].endswith("/new"), r.raw)
    equal("same again", s.call("CreateQueue", QueueName="new",
                               Attributes={"VisibilityTimeout": "7"}).status, 200)
    refused("other value", s.call("CreateQueue", QueueName="new", Attributes={"VisibilityTimeout": "8"}),
            "QueueNameExists", query="QueueAlreadyExists;Sender")
    refused("fifo without suffix", s.call("CreateQueue", QueueName="x", Attributes={"FifoQueue": "true"}),
            "InvalidParameterValueException")
    refused("name", s.call("CreateQueue", QueueName="a b"), "InvalidParameterValueException")
    refused("value", s.call("SetQueueAttributes", queue="new", Attributes={"DelaySeconds": "901"}),
            "InvalidAttributeValue")
    equal("list", [x.rsplit("/")[-1] for x in s.call("ListQueues", QueueNamePrefix="n").json["QueueUrls"]],
          ["new"])
    equal("list none", s.call("ListQueues", QueueNamePrefix="zzz").json, {})
    names, token = [], None
    while True:
        r = s.call("ListQueues", MaxResults=2, **({"NextToken": token} if token else {})).json
        names += [x.rsplit("/")[-1] for x in r["QueueUrls"]]
        token = r.get("NextToken")
        if not token:
            break
    equal("pages", names, sorted(["c.fifo", "dead", "f.fifo", "new", "q", "src"]))
    s.call("SetQueueAttributes", queue="new", Attributes={"DelaySeconds": "5",
                                                           "MaximumMessageSize": "1024"})
    refused("queue's own limit", s.send("new", "x" * 1025), "InvalidParameterValueException",
            text="1024")
    s.send("new", "x")
    equal("queue delay", s.stats("new")["delayed"], 1)
    equal("purge", s.call("PurgeQueue", queue="new").status, 200)
    equal("purged", (s.stats("new")["purged"], s.stats("new")["delayed"]), (1, 0))
    refused("purge again", s.call("PurgeQueue", queue="new"), "PurgeQueueInProgress", 403)
    s.advance(61)
    equal("purge later", s.call("PurgeQueue", queue="new").status, 200)
    got = []
    t = threading.Thread(target=lambda: got.append(
        s.call("ReceiveMessage", queue="new", WaitTimeSeconds=20)))
    t.start()
    s.await_poll("new")
    equal("delete queue", s.call("DeleteQueue", queue="new").status, 200)
    t.join()
    refused("poll on a deleted queue", got[0], "QueueDoesNotExist")
    refused("too soon", s.call("CreateQueue", QueueName="new"), "QueueDeletedRecently")
    s.advance(61)
    equal("later", s.call("CreateQueue", QueueName="new").status, 200)
    s.call("DeleteQueue", queue="new")
    s.clear()


def raw_call(s, action, body, timeout=TIMEOUT):
    """Returns what the wire said and how it ended: "eof", "reset" or "timeout"."""
    c = socket.create_connection(("127.0.0.1", s.port), timeout=timeout)
    body = json.dumps(body).encode()
    data = b""
    try:
        c.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.%s\r\n"
                  b"Content-Length: %d\r\n\r\n" % (action.encode(), len(body)) + body)
        while True:
            part = c.recv(65536)
            if not part:
                return data, "eof"
            data += part
    except ConnectionResetError:
        return data, "reset"
    except socket.timeout:
        return data, "timeout"
    finally:
        c.close()


def test_faults(s):
    send = {"QueueUrl": "x/q", "MessageBody": "x"}

    i = s.fault("latency", ms=300)
    start = time.time()
    s.send("q")
    check("latency", time.time() - start > 0.25)
    listed = s.admin("GET", "fault").json
    equal("listed", (listed[0]["id"], listed[0]["kind"], listed[0]["fired"]), (i, "latency", 1))
    equal("remove one", s.admin("DELETE", "fault?id=%d" % i).status, 200)
    equal("none left", s.admin("GET", "fault").json, [])

    s.clear()
    s.fault("error", code="ThrottlingException", message="Rate exceeded", count=2, skip=1,
            action="SendMessage", queue="q")
    equal("skip", s.send("q").status, 200)
    refused("error", s.send("q"), "ThrottlingException", 400, text="Rate exceeded",
            query="Throttling;Sender")
    equal("other action", s.call("ReceiveMessage", queue="src").status, 200)
    equal("other queue", s.send("src").status, 200)
    refused("error again", s.send("q"), "ThrottlingException")
    equal("count", s.send("q").status, 200)
    s.admin("DELETE", "fault")
    s.fault("error", status=503, body="<html>no</html>", count=1)
    r = s.send("q")
    equal("html error", (r.status, r.raw, r.headers["Content-Type"]),
          (503, b"<html>no</html>", "text/html"))
    s.fault("error", status=500, body="", count=1)
    r = s.send("q")
    equal("empty error", (r.status, r.raw), (500, b""))
    equal("errors have done no work", s.stats("q")["sent"], 2)

    s.clear()
    s.fault("reset_before", count=1)
    equal("reset_before", raw_call(s, "SendMessage", send), (b"", "reset"))
    equal("nothing sent", s.stats("q")["sent"], 0)
    s.fault("reset_after", count=1)
    equal("reset_after", raw_call(s, "SendMessage", send), (b"", "reset"))
    equal("sent", s.stats("q")["sent"], 1)
    s.fault("lose_reply", count=1)
    equal("lose_reply", raw_call(s, "SendMessage", send), (b"", "eof"))
    equal("sent again", s.stats("q")["sent"], 2)
    s.fault("truncate", bytes=20, count=1)
    data, end = raw_call(s, "SendMessage", send)
    head, _, rest = data.partition(b"\r\n\r\n")
    length = int([h for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")][0].split()[1])
    equal("truncate", (len(rest), end), (20, "eof"))
    check("announced more", length > 20, length)
    s.fault("garbage", count=1)
    r = s.send("q")
    equal("garbage", (r.status, r.json), (200, None))
    s.fault("garbage", raw=True, count=1)
    data, end = raw_call(s, "SendMessage", send)
    check("raw garbage", b"not HTTP" in data and not data.startswith(b"HTTP") and end != "timeout")
    equal("all sent", s.stats("q")["sent"], 5)
    s.fault("idle_close", count=1)
    data, end = raw_call(s, "SendMessage", send)
    check("idle_close", data.startswith(b"HTTP/1.1 200") and b"connection: close" not in data.lower(), data)
    equal("closed when idle", end, "eof")
    equal("kept otherwise", raw_call(s, "SendMessage", send, timeout=1.5)[1], "timeout")
    equal("sent as ever", s.stats("q")["sent"], 7)
    s.fault("blackhole", count=1)
    equal("blackhole", raw_call(s, "SendMessage", send, timeout=0.5), (b"", "timeout"))
    equal("blackhole did nothing", s.stats("q")["sent"], 7)
    s.fault("huge", count=1, bytes=3000000)
    r = s.send("q")
    equal("huge", (len(r.raw), list(r.json)), (3000000, ["pad"]))

    s.clear()
    s.fault("duplicate", count=1)
    s.send("q", "twice")
    a, b = s.receive("q"), s.receive("q")
    equal("duplicate", (bodies(a), bodies(b)), (["twice"], ["twice"]))
    equal("then leased", s.receive("q"), [])
    s.clear()
    s.fault("duplicate", same_reply=True, count=1)
    s.send("q", "twice")
    a = s.receive("q")
    equal("same reply", (len(a), a[0]["MessageId"] == a[1]["MessageId"],
                         a[0]["ReceiptHandle"] == a[1]["ReceiptHandle"]), (2, True, False))
    s.clear()
    s.fault("duplicate", same_reply=True)
    for i in range(6):
        s.send("q", str(i))
    a = s.receive("q", 5)
    equal("no more than asked for", bodies(a), ["0", "0", "1", "1"])
    equal("one is one", bodies(s.receive("q", 1)), ["2"])
    s.clear()
    s.fault("few", messages=2, count=1)
    for i in range(3):
        s.send("q", str(i))
    equal("few", [bodies(s.receive("q")) for i in range(2)], [["0", "1"], ["2"]])
    s.clear()

    s.fault("bad_md5", count=2)
    check("bad md5 of a send", s.send("q", "x").json["MD5OfMessageBody"] != md5("x"))
    check("bad md5 of a receive", s.receive("q")[0]["MD5OfBody"] != md5("x"))
    s.clear()
    s.fault("entry_fail", every=2, code="InternalError", message="m", sender_fault=False)
    r = s.call("SendMessageBatch", queue="q", Entries=[
        {"Id": str(i), "MessageBody": str(i)} for i in range(4)])
    equal("entry_fail", ([e["Id"] for e in r.json["Successful"]],
                         [(e["Id"], e["Code"], e["SenderFault"]) for e in r.json["Failed"]]),
          (["0", "2"], [("1", "InternalError", False), ("3", "InternalError", False)]))
    equal("failed entries were not sent", bodies(s.receive("q")), ["0", "2"])
    s.clear()
    s.fault("lose_reply", action="ReceiveMessage", nonempty=True, count=1)
    equal("nonempty waits", s.call("ReceiveMessage", queue="q").json, {})
    s.send("q")
    equal("nonempty fires", raw_call(s, "ReceiveMessage", {"QueueUrl": "x/q"}), (b"", "eof"))
    equal("lost in flight", s.stats("q")["in_flight"], 1)
    s.clear()
    s.fault("bad_md5", action="ReceiveMessage", nonempty=True, count=1)
    equal("bad_md5 waits", s.call("ReceiveMessage", queue="q").json, {})
    s.send("q", "x")
    check("bad_md5 fires", s.receive("q")[0]["MD5OfBody"] != md5("x"))
    s.clear()
    for kind in "lose_reply", "garbage", "bad_md5":
        s.fault(kind, action="ReceiveMessage")
        got = []
        t = threading.Thread(target=lambda: got.extend(s.receive("q", WaitTimeSeconds=20)))
        t.start()
        s.await_poll("q")
        s.admin("DELETE", "fault")
        s.send("q", "x")
        t.join()
        equal("removed before the message: " + kind, [m["MD5OfBody"] for m in got], [md5("x")])
    s.clear()
    s.fault("clock", seconds=-3600)
    hour = datetime.timedelta(hours=1)
    start = datetime.datetime.utcnow().replace(microsecond=0)
    date = datetime.datetime.strptime(s.send("q").headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")
    check("clock", start - hour <= date <= datetime.datetime.utcnow() - hour, date)
    equal("misspelt parameter", s.admin("POST", "fault", kind="latency", mss=1).status, 400)
    equal("unknown kind", s.admin("POST", "fault", kind="nope").status, 400)
    s.fault("reset_after", probability=0)
    s.clear()
    equal("reset removes faults", s.admin("GET", "fault").json, [])


def test_admin(s):
    equal("health", s.admin("GET", "health").json, {"ok": True})
    equal("unknown admin call", s.admin("GET", "nope").status, 404)
    equal("advance backwards", s.admin("POST", "advance", seconds=-1).status, 400)
    equal("fill unknown", s.admin("POST", "fill", queue="none", count=1).status, 404)
    s.admin("POST", "fill", queue="q", count=50000, body="body {i} " + "x" * 100)
    m = s.admin("GET", "messages?queue=q&limit=2").json
    equal("messages", [(x["body"][:6], x["state"], x["deliveries"], x["visible_in_ms"]) for x in m],
          [("body 1", "visible", 0, 0), ("body 2", "visible", 0, 0)])
    got = s.receive("q", 3)
    s.delete("q", got[0]["ReceiptHandle"])
    equal("in flight", len(s.admin("GET", "messages?queue=q&state=in_flight").json), 2)
    d = s.admin("GET", "messages?queue=q&state=deleted").json
    equal("deleted", [(x["id"], x["body_md5"], x["deliveries"]) for x in d],
          [(got[0]["MessageId"], got[0]["MD5OfBody"], 1)])
    s.clear()
    s.send("q", "é" * 150)
    equal("clipped body", s.admin("GET", "messages?queue=q").json[0]["body"], "é" * 100)
    s.clear()
    equal("reset", [s.stats("q")[n] for n in ("sent", "visible", "deleted")], [0, 0, 0])
    st = s.stats()
    check("server stats", st["connections"]["total"] >= 1 and st["uptime_ms"] > 0)
    c = s.connect()
    for _ in range(3):
        c.request("POST", "/", b'{"QueueUrl":"x/q"}', s.headers("ReceiveMessage"))
        equal("keep-alive", c.getresponse().read(), b"{}")
    c.close()
    came = s.admin("GET", "calls?queue=q&action=ReceiveMessage").json
    check("times of calls", len(came) == 3 and came == sorted(came), came)
    s.fault("error", status=500, action="ReceiveMessage", count=1)
    s.call("ReceiveMessage", queue="q")
    check("also of those that fail",
          len(s.admin("GET", "calls?queue=q&action=ReceiveMessage").json) == 4 and s.stats("q")["calls"]["ReceiveMessage"] == 3)
    equal("of others", s.admin("GET", "calls?queue=q&action=PurgeQueue").json, [])
    equal("times of what is not", [s.admin("GET", "calls?queue=%s&action=%s" % x).status
                                   for x in (("none", "SendMessage"), ("q", "None"))], [404, 404])
    # Chunked bodies, and the answer to Expect: 100-continue
    r = s.request("POST", "/", iter([b'{"Queue', b'Url":"x/q"}']), s.headers("ReceiveMessage"))
    equal("chunked", r.raw, b"{}")
    c = socket.create_connection(("127.0.0.1", s.port), timeout=TIMEOUT)
    c.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\n"
              b"Content-Length: 18\r\nExpect: 100-continue\r\n\r\n")
    check("100-continue", c.recv(100).startswith(b"HTTP/1.1 100"))
    c.sendall(b'{"QueueUrl":"x/q"}')
    check("then 200", c.recv(1000).startswith(b"HTTP/1.1 200"))
    c.close()


def test_in_flight_limit(s):
    s.admin("POST", "fill", queue="q", count=120001, body="{i}")
    c = s.connect()
    body = json.dumps({"QueueUrl": "x/q", "MaxNumberOfMessages": 10, "VisibilityTimeout": 43200}).encode()
    for _ in range(12000):
        c.request("POST", "/", body, s.headers("ReceiveMessage"))
        last = c.getresponse().read()
    handle = json.loads(last)["Messages"][0]["ReceiptHandle"]
    c.close()
    refused("over limit", s.call("ReceiveMessage", queue="q"), "OverLimit", 403)
    got = []
    t = threading.Thread(target=lambda: got.extend(s.receive("q", WaitTimeSeconds=20)))
    t.start()
    s.await_poll("q")
    s.delete("q", handle)
    t.join()
    equal("room again", bodies(got), ["120001"])
    s.clear()


def test_signatures():
    s = Server("--queue", "q", "--access-key", KEY, "--secret-key", SECRET, "--access-key", "AKID2",
               "--secret-key", "s2")
    body = b'{"QueueUrl":"x/q"}'

    def signed(headers=None, body=body, sent=None, **how):
        h = sign(headers or s.headers("ReceiveMessage"), body, **how)
        return s.request("POST", "/", sent or body, h)

    now = datetime.datetime.now(datetime.timezone.utc)
    equal("good signature", signed().status, 200)
    equal("good again (cached key)", signed().status, 200)
    equal("second key", signed(key="AKID2", secret="s2").status, 200)
    equal("more headers", signed(dict(s.headers("ReceiveMessage"), **{
        "X-Amz-Q": "  a   b ", "X-A": "b"})).status, 200)
    refused("missing", s.request("POST", "/", body, s.headers("ReceiveMessage")),
            "MissingAuthenticationTokenException", 403)
    refused("wrong secret", signed(secret="no"), "InvalidSignatureException", 403,
            text="The request signature we calculated does not match")
    refused("changed body", signed(sent=b'{"QueueUrl":"y/q"}'), "InvalidSignatureException", 403)
    refused("unknown key", signed(key="AKNONE"), "UnrecognizedClientException", 403)
    refused("region", signed(region="eu-west-1"), "InvalidSignatureException", 403,
            text="valid region, not 'eu-west-1'")
    refused("service", signed(service="sns"), "InvalidSignatureException", 403, text="correct service")
    refused("old", signed(when=now - datetime.timedelta(minutes=16)), "InvalidSignatureException",
            403, text="Signature expired: ")
    refused("early", signed(when=now + datetime.timedelta(minutes=16)), "InvalidSignatureException",
            403, text="Signature not yet current: ")
    equal("within limits", signed(when=now - datetime.timedelta(minutes=14)).status, 200)
    refused("host unsigned", signed(leave_out=("host",)), "InvalidSignatureException", 403)
    refused("date unsigned", signed(leave_out=("x-amz-date",)), "InvalidSignatureException", 403)
    refused("not SigV4", s.request("POST", "/", body, dict(s.headers("ReceiveMessage"),
                                                           Authorization="Basic x")),
            "IncompleteSignatureException")
    token = dict(s.headers("ReceiveMessage"), **{"X-Amz-Security-Token": "T"})
    refused("token not expected", signed(token), "UnrecognizedClientException", 403)
    s.fault("clock", seconds=3600)
    refused("clock fault", signed(), "InvalidSignatureException", 403, text="Signature expired")
    equal("corrected", signed(when=now + datetime.timedelta(hours=1)).status, 200)
    st = s.stats()
    check("auth failures", st["auth_failures"] == st["errors"] >= 11, st["auth_failures"])
    s.stop()

    s = Server("--queue", "q", "--access-key", KEY, "--secret-key", SECRET, "--session-token", "TOK==",
               "--expired-token", "OLD", "--skew-limit", "60")
    token = dict(s.headers("ReceiveMessage"), **{"X-Amz-Security-Token": "TOK=="})
    equal("token", signed(token).status, 200)
    refused("token missing", signed(s.headers("ReceiveMessage")), "UnrecognizedClientException", 403)
    refused("token unsigned", signed(token, leave_out=("x-amz-security-token",)),
            "InvalidSignatureException", 403)
    refused("token expired", signed(dict(token, **{"X-Amz-Security-Token": "OLD"})),
            "ExpiredTokenException", 403)
    refused("skew limit", signed(token, when=now - datetime.timedelta(seconds=200)),
            "InvalidSignatureException", 403, text="- 1 min.")
    s.stop()


ROLE = "arn:aws:iam::123456789012:role/path/r"


class Keys:
    """Keys out of a reply of STS (XML or JSON) or of a metadata service."""

    def __init__(self, reply):
        def find(name):
            return next((e.text for e in tree.iter() if e.tag.split("}")[-1] == name), None)
        if reply.raw.startswith(b"<"):
            tree = xml.etree.ElementTree.fromstring(reply.raw)
            self.id, self.secret, self.token = map(find, (
                "AccessKeyId", "SecretAccessKey", "SessionToken"))
            self.expires, self.arn = find("Expiration"), find("Arn")
            self.code, self.message = find("Code"), find("Message")
            return
        j = reply.json or {}
        for name in list(j):
            if name.endswith("Response"):
                j = j[name][name[:-8] + "Result"]["Credentials"]
        j.update(j.get("Error", {}))
        self.id, self.secret = j.get("AccessKeyId"), j.get("SecretAccessKey")
        self.token = j.get("Token") or j.get("SessionToken")
        self.expires, self.code, self.message = j.get("Expiration"), j.get("Code"), j.get("Message")

    def left(self):
        """Seconds until their end, as told."""
        when = datetime.datetime.strptime(self.expires, "%Y-%m-%dT%H:%M:%S%z")
        return (when - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


def test_identity():
    s = Server("--queue", "q", "--access-key", KEY, "--secret-key", SECRET)

    def sts(action, keys=(KEY, SECRET, None), accept=None, service="sts", **members):
        h = {"Host": s.host, "Content-Type": "application/x-www-form-urlencoded"}
        if accept:
            h["Accept"] = accept
        body = urllib.parse.urlencode(dict(Action=action, Version="2011-06-15", **members)).encode()
        if keys:
            if keys[2]:
                h["X-Amz-Security-Token"] = keys[2]
            h = sign(h, body, keys[0], keys[1], service=service)
        return s.request("POST", "/", body, h)

    def assume(**members):
        return sts("AssumeRole", **dict({"RoleArn": ROLE, "RoleSessionName": "sess"}, **members))

    def web(token="tok", **members):
        return sts("AssumeRoleWithWebIdentity", keys=None, RoleSessionName="sess", RoleArn=ROLE,
                   WebIdentityToken=token, **members)

    def use(keys, action="ReceiveMessage", token=True):
        h = s.headers(action)
        if token:
            h["X-Amz-Security-Token"] = keys.token
        body = b'{"QueueUrl":"x/q"}'
        return s.request("POST", "/", body, sign(h, body, keys.id, keys.secret))

    def no(what, reply, status, code, text=""):
        k = Keys(reply)
        check(what, reply.status == status and k.code == code and text in (k.message or "") and
              k.id is None, "%d %s %s" % (reply.status, k.code, k.message))

    def get(path, headers=None, method="GET"):
        return s.request(method, path, headers=headers)

    def books():
        b = s.admin("GET", "identity").json
        b["granted"] = {(g["action"], g["identity"]): g["calls"] for g in b["granted"]}
        return b

    # roles
    k = Keys(assume())
    equal("whose", k.arn, "arn:aws:sts::123456789012:assumed-role/r/sess")
    check("an hour", 3590 < k.left() <= 3600, k.expires)
    equal("issued keys sign", use(k).status, 200)
    refused("not without their token", use(k, token=False), "UnrecognizedClientException", 403)
    k2 = Keys(sts("AssumeRole", (k.id, k.secret, k.token), RoleArn=ROLE + "2", RoleSessionName="s2",
                  DurationSeconds="900"))
    equal("a role's role", use(k2).status, 200)
    check("as long as asked for", 890 < k2.left() <= 900, k2.expires)
    no("an hour for chains", sts("AssumeRole", (k.id, k.secret, k.token), RoleArn=ROLE,
                                 RoleSessionName="s2", DurationSeconds="3601"), 400, "ValidationError")
    j = assume(accept="application/json")
    equal("JSON", use(Keys(j)).status, 200)
    check("JSON has seconds", isinstance(Keys(j).expires, int))
    no("no session name", sts("AssumeRole", RoleArn=ROLE), 400, "ValidationError", "roleSessionName")
    no("no role", assume(RoleArn="arn:aws:iam::1:user/u"), 400, "ValidationError", "ARN")
    no("too short", assume(DurationSeconds="1"), 400, "ValidationError")
    no("unsigned", assume(keys=None), 403, "MissingAuthenticationToken")
    no("wrong secret", assume(keys=(KEY, "x", None)), 403, "SignatureDoesNotMatch")
    no("for another service", assume(service="sqs"), 403, "SignatureDoesNotMatch", "'sts'")
    no("no such action", sts("Nope"), 400, "InvalidAction")
    no("JSON error", assume(accept="application/json", DurationSeconds="1"), 400, "ValidationError")
    s.admin("POST", "identity", roles=[{"arn": ROLE, "external_id": "e&<"},
                                       {"arn": ROLE + "2", "by": k.arn}])
    no("no external id", assume(), 403, "AccessDenied", "not authorized to perform: sts:AssumeRole")
    no("another", assume(ExternalId="f"), 403, "AccessDenied")
    check("the right one", Keys(assume(ExternalId="e&<")).id)
    no("not by me", assume(RoleArn=ROLE + "2"), 403, "AccessDenied", "user/" + KEY)
    check("by the role", Keys(assume(keys=(k.id, k.secret, k.token), RoleArn=ROLE + "2")).id)
    s.admin("POST", "identity", roles=None)
    check("all again", Keys(assume()).id)
    me = sts("GetCallerIdentity", (k.id, k.secret, k.token))
    check("who am I", b"<Arn>%s</Arn>" % k.arn.encode() in me.raw and
          b"<Account>123456789012</Account>" in me.raw, me.raw)
    check("a user", b":user/" + KEY.encode() in sts("GetCallerIdentity").raw)

    # web identity
    check("any token", Keys(web()).id)
    s.admin("POST", "identity", web_token="good", expired_web_token="old")
    no("another token", web(), 400, "InvalidIdentityToken")
    no("expired token", web("old"), 400, "ExpiredTokenException")
    equal("the token", use(Keys(web("good"))).status, 200)

    # their end
    s.admin("POST", "identity", life=70)
    k = Keys(assume())
    check("70 s", 60 < k.left() <= 70, k.expires)
    s.advance(69)
    equal("at the end", use(k).status, 200)
    s.advance(1)
    refused("after the end", use(k), "ExpiredTokenException", 403)
    no("of STS, too", sts("GetCallerIdentity", (k.id, k.secret, k.token)), 403, "ExpiredToken")
    k = Keys(assume())
    s.admin("POST", "identity", revoke=True)
    refused("revoked", use(k), "ExpiredTokenException", 403)
    equal("the user's keys are not", s.request("POST", "/", b'{"QueueUrl":"x/q"}', sign(
        s.headers("ReceiveMessage"), b'{"QueueUrl":"x/q"}')).status, 200)
    s.admin("POST", "identity", life=0, token_length=12000)
    k = Keys(assume())
    check("a long token", len(k.token) == 12000 and use(k).status == 200)
    s.admin("POST", "identity", token_length=356)

    # containers
    k = Keys(get("/v2/credentials/task1"))
    equal("ECS", use(k).status, 200)
    s.admin("POST", "identity", container_token="pod")
    equal("EKS without token", get("/v1/credentials").status, 401)
    equal("EKS with another", get("/v1/credentials", {"Authorization": "x"}).status, 403)
    equal("EKS", use(Keys(get("/v1/credentials", {"Authorization": "pod"}))).status, 200)

    # instance metadata
    roles = "/latest/meta-data/iam/security-credentials/"
    equal("no version 1", get(roles).status, 401)
    equal("a token needs a time", get("/latest/api/token", method="PUT").status, 400)

    def token(ttl="60"):
        return {"X-aws-ec2-metadata-token": get(
            "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": ttl}, "PUT").raw.decode()}
    t = token()
    equal("the role", get(roles, t).raw, b"sqsd-instance")
    k = Keys(get(roles + "sqsd-instance", t))
    check("its keys", use(k).status == 200 and k.code == "Success")
    equal("another's", get(roles + "x", t).status, 404)
    equal("the region", get("/latest/meta-data/placement/region", t).raw, REGION.encode())
    s.admin("POST", "identity", region="eu-west-1", metadata_age=3600, instance_role=None)
    equal("another region", get("/latest/meta-data/placement/region", t).raw, b"eu-west-1")
    equal("no role", get(roles, t).status, 404)
    s.admin("POST", "identity", instance_role="r2")
    k = Keys(get(roles + "r2", t))
    check("expired, but good", use(k).status == 200 and k.left() < -3500, k.expires)
    s.admin("POST", "identity", forget_tokens=True)
    equal("forgotten", get(roles, t).status, 401)
    t = token("1")
    s.advance(1)
    equal("token expired", get(roles, t).status, 401)

    # faults
    s.fault("error", action="AssumeRole", queue=ROLE, code="AccessDenied", message="<no>", status=403)
    no("injected", assume(), 403, "AccessDenied", "<no>")
    check("for one role", Keys(assume(RoleArn=ROLE + "2")).id)
    s.clear()
    s.fault("error", action="ContainerCredentials", status=500, body="<html>")
    equal("a page", get("/v1/credentials").raw, b"<html>")
    s.clear()
    s.fault("clock", seconds=3600)
    no("clock", assume(), 403, "SignatureDoesNotMatch", "Signature expired")
    check("clock of the expiry", 7100 < Keys(web("good")).left() < 7300)
    s.clear()
    s.fault("garbage", action="AssumeRole")
    equal("garbage", assume().json, None)
    s.clear()
    s.fault("huge", action="MetadataToken", bytes=100000)
    equal("huge", len(get("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "1"},
                          "PUT").raw), 100000)
    s.clear()
    s.fault("blackhole", action="MetadataToken")
    try:
        s.request("PUT", "/latest/api/token", timeout=0.3)
        check("hop limit", False)
    except OSError:
        check("hop limit", True)
    s.clear()

    # books
    for bad in ({"life": "x"}, {"life": -1}, {"roles": [{}]}, {"nope": 1}, {"web_token": 1}):
        equal("refused %s" % bad, s.admin("POST", "identity", **bad).status, 400)
    s.admin("POST", "reset")
    k = Keys(assume(RoleSessionName="books"))
    for _ in range(3):
        use(k)
    assume(RoleArn="x")
    b = books()
    equal("calls", {a: n for a, n in b["calls"].items() if n}, {"AssumeRole": 2})
    equal("granted", b["granted"], {("AssumeRole", ROLE): 1, ("ReceiveMessage", k.arn): 3})
    mine = b["keys"][0]
    check("the key", mine["id"] == k.id and mine["identity"] == k.arn and mine["uses"] == 3 and
          mine["source"] == "AssumeRole" and not mine["expired"] and
          mine["expires_ms"] - mine["issued_ms"] == 3600000, mine)
    check("no secret in the books", k.secret not in json.dumps(b["keys"]) and
          k.token not in json.dumps(b["keys"]))
    check("as in stats", s.stats()["calls"]["AssumeRole"] == 2)
    for _ in range(1100):
        last = web("good")
    check("many keys", use(Keys(last)).status == 200 and len(books()["keys"]) == 100)
    refused("the oldest are forgotten", use(k), "UnrecognizedClientException", 403)
    s.stop()

    # without keys of its own, only what was issued is looked at
    s = Server("--queue", "q")
    equal("unsigned", s.call("ReceiveMessage", queue="q").status, 200)
    k = Keys(assume(keys=("any", "thing", None)))
    equal("issued", use(k).status, 200)
    s.admin("POST", "identity", revoke=True)
    refused("and revoked", use(k), "ExpiredTokenException", 403)
    equal("unsigned as before", s.call("ReceiveMessage", queue="q").status, 200)
    s.stop()


def test_tls():
    import ssl
    with tempfile.TemporaryDirectory() as d:
        cert, key = os.path.join(d, "c.pem"), os.path.join(d, "k.pem")
        try:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
                            "-days", "2", "-subj", "/CN=localhost",
                            "-addext", "subjectAltName=IP:127.0.0.1"], check=True,
                           stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            print("no openssl program: TLS not tested")
            return
        s = Server("--queue", "q", "--tls-cert", cert, "--tls-key", key,
                   tls=ssl.create_default_context(cafile=cert))
        s.send("q", "over TLS")
        equal("TLS", bodies(s.receive("q")), ["over TLS"])
        check("https url", s.call("GetQueueUrl", QueueName="q").json["QueueUrl"].startswith("https:"))
        got = []
        t = threading.Thread(target=lambda: got.extend(s.receive("q", WaitTimeSeconds=20)))
        t.start()
        s.await_poll("q")
        s.send("q", "woken")
        t.join()
        equal("TLS long poll", bodies(got), ["woken"])
        check("listening line", "https://127.0.0.1:%d" % s.port in s.stop())


def test_options():
    def run(*args):
        return subprocess.run([os.path.join(HERE, "sqsd"), *args], capture_output=True, text=True,
                              timeout=TIMEOUT)
    check("help says test tool", "TEST TOOL" in run("--help").stdout)
    equal("version", run("--version").returncode, 0)
    for bad in (["--port", "x"], ["--nope"], ["--queue", "a b"], ["--queue", "a,Nope=1"],
                ["--queue", "a,dlq=b:3"], ["--access-key", "a"], ["extra"], ["--tls-cert", "x"]):
        equal("refused %s" % bad, run(*bad).returncode, 2)


def main():
    start = time.time()
    s = Server("--queue", "q", "--queue", "f.fifo", "--queue", "c.fifo,ContentBasedDeduplication=true",
               "--queue", "src,dlq=dead:2", "--queue", "dead")
    for test in (test_messages, test_batches, test_validation, test_visibility, test_long_poll,
                 test_fifo, test_dlq, test_queues, test_faults, test_admin, test_in_flight_limit):
        try:
            test(s)
        except Exception as e:        # a broken reply must not hide the other tests
            check("%s ran through" % test.__name__, False, repr(e))
            s.clear()
    # Stopping with polls, held and delayed requests open must be clean.
    open_ones = []
    s.fault("blackhole", action="SendMessage")
    s.fault("latency", action="DeleteMessage", ms=60000)
    for action in ("ReceiveMessage", "SendMessage", "DeleteMessage"):
        c = s.connect()
        c.request("POST", "/", b'{"QueueUrl":"x/q","WaitTimeSeconds":20}', s.headers(action))
        open_ones.append(c)
    time.sleep(0.2)
    check("says that it is a test tool", "test tool" in s.stop())
    for test in (test_signatures, test_identity, test_tls, test_options):
        test()
    print("%d passed, %d failed (%.1f s)" % (passed, failed, time.time() - start))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

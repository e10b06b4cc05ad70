"""Answers of the API against server/openapi.json.

A journal is a row of records "METHOD TARGET STATUS TYPE BYTES\\n" + body + "\\n"; flows write one
(lib.sh, recorder.py). Every record must be an operation of the file, its status and type must be
described, and a JSON body must fit its schema. Stricter than JSON Schema in one way: a member that
the schema of an object does not name is a failure, so that nothing goes undescribed.

usage: openapi.py OPENAPI JOURNAL...     prints what does not fit; 1 when anything does not
       openapi.py --cover OPENAPI JOURNAL...     prints operations that no record answers for
"""
import json, re, sys

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_type(v, name):
    if name == "integer":
        return isinstance(v, int) and not isinstance(v, bool)
    if name == "number":
        return isinstance(v, (int, float)) and not isinstance(v, bool)
    return isinstance(v, TYPES[name])


class Checker:
    def __init__(self, doc):
        self.doc = doc
        self.errors = []
        self.paths = []
        for path, ops in doc["paths"].items():
            pattern = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "$")
            self.paths.append((path.count("{"), pattern, path, ops))
        self.paths.sort(key=lambda p: p[0])  # A plain segment goes before a parameter.

    def deref(self, s):
        while "$ref" in s:
            node = self.doc
            for part in s["$ref"].lstrip("#/").split("/"):
                node = node[part]
            s = node
        return s

    def fits(self, v, s):
        before, self.errors = self.errors, []
        self.check(v, s, "")
        ok, self.errors = not self.errors, before
        return ok

    def check(self, v, schema, at):
        s = self.deref(schema)
        say = lambda text: self.errors.append(f"{at or '/'}: {text}")
        for part in s.get("allOf", []):
            self.check(v, part, at)
        if "oneOf" in s and sum(self.fits(v, one) for one in s["oneOf"]) != 1:
            say(f"{json.dumps(v)[:80]} fits not exactly one of the forms")
        kinds = s.get("type")
        if kinds is not None:
            kinds = kinds if isinstance(kinds, list) else [kinds]
            if not any(is_type(v, k) for k in kinds):
                say(f"{json.dumps(v)[:80]} is no {' or '.join(kinds)}")
                return
        if "enum" in s and v not in s["enum"]:
            say(f"{json.dumps(v)[:80]} is none of {s['enum']}")
        if isinstance(v, str) and "pattern" in s and not re.search(s["pattern"], v):
            say(f"\"{v[:80]}\" does not match {s['pattern']}")
        if isinstance(v, str) and s.get("format") == "date-time" and not re.match(
                r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", v):
            say(f"\"{v[:80]}\" is no time")
        if is_type(v, "number"):
            if v < s.get("minimum", v) or v > s.get("maximum", v):
                say(f"{v} is out of bounds")
        if isinstance(v, list) and "items" in s:
            for i, one in enumerate(v):
                self.check(one, s["items"], f"{at}/{i}")
        if isinstance(v, dict):
            self.check_object(v, s, at, say)

    def check_object(self, v, s, at, say):
        for name in s.get("required", []):
            if name not in v:
                say(f"\"{name}\" is missing")
        known, more = s.get("properties", {}), s.get("additionalProperties", "properties" not in s)
        for name, value in v.items():
            if name in known:
                self.check(value, known[name], f"{at}/{name}")
            elif isinstance(more, dict):
                self.check(value, more, f"{at}/{name}")
            elif not more and "allOf" not in s and "oneOf" not in s:
                say(f"\"{name}\" is not described")

    def operation(self, method, path):
        for _, pattern, name, ops in self.paths:
            op = ops.get("get" if method == "HEAD" else method.lower())
            if op and pattern.match(path):
                return name, op
        return None, None

    def record(self, method, target, status, kind, body):
        """What does not fit, as sentences; and the operation's id."""
        self.errors = []
        name, op = self.operation(method, target.split("?")[0])
        if not op:
            if status not in (404, 405, 400, 421, 411, 503, 413):
                self.errors.append(f"status {status} where nothing is described")
            described = self.doc["components"]["responses"]["Problem"]
        else:
            described = self.deref(op["responses"].get(str(status), op["responses"].get("default", {})))
            if status < 400 and str(status) not in op["responses"]:
                self.errors.append(f"status {status} is not described")
        content = described.get("content")
        if method == "HEAD" or status in (204, 304):
            if body:
                self.errors.append("an answer without a body has one")
        elif not content:
            if body:
                self.errors.append("a body is not described")
        elif kind.split(";")[0] not in [k.split(";")[0] for k in content]:
            self.errors.append(f"type \"{kind}\" is not described; {list(content)} are")
        elif kind.split(";")[0].endswith("json") and body is not None:
            schema = next(c for k, c in content.items() if k.split(";")[0] == kind.split(";")[0])
            try:
                self.check(json.loads(body), schema.get("schema", {}), "")
            except ValueError as e:
                self.errors.append(f"not JSON: {e}")
        return self.errors, op["operationId"] if op else None


def records(path):
    with open(path, "rb") as f:
        while line := f.readline():
            method, target, status, kind, size = line.decode().rstrip("\n").split(" ")
            body = f.read(int(size)) if int(size) >= 0 else None  # -1: not kept
            f.readline()
            yield method, target, int(status), kind, body


def main(args):
    cover = args[0] == "--cover"
    doc = json.load(open(args[cover]))
    checker, bad, n, seen = Checker(doc), 0, 0, set()
    for path in args[cover + 1:]:
        for method, target, status, kind, body in records(path):
            n += 1
            errors, op = checker.record(method, target, status, kind, body)
            if status < 400:
                seen.add(op)
            for e in errors[:5]:
                bad += 1
                print(f"{method} {target} -> {status}: {e}")
    if cover:
        for ops in doc["paths"].values():
            for op in ops.values():
                if op["operationId"] not in seen:
                    print(op["operationId"])
        return 0
    print(f"{n} answers, {bad} misfits")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/bin/bash
# Every operation of the API's description with every role: who may not pass is told 401 or 403,
# who may is told anything else.
. tests/flow/lib.sh
start_redis
start_server
post "$ADMIN" /tokens '{"name":"v","role":"viewer"}'; VIEWER=$(js 'b["secret"]')
post "$ADMIN" /tokens '{"name":"o","role":"operator"}'; OPERATOR=$(js 'b["secret"]')
api GET /openapi.json
want 200
cp "$FLOW_DIR/body" "$FLOW_DIR/openapi.json"
python3 - "$FLOW_DIR/openapi.json" "$URL" "$ADMIN" "$OPERATOR" "$VIEWER" "$WORKER" <<'PY'
import json, re, sys, urllib.request, urllib.error
doc, url, admin, operator, viewer, worker = json.load(open(sys.argv[1])), *sys.argv[2:]
tokens = {"none": None, "viewer": viewer, "operator": operator, "admin": admin, "worker": worker}
rank = {"none": 0, "viewer": 1, "operator": 2, "admin": 3}
def covers(have, need):
    if need == "none": return True
    if "worker" in (have, need): return have == need
    return rank[have] >= rank[need]
bad = n = 0
for path, ops in doc["paths"].items():
    for method, op in ops.items():
        need = op["x-pawl-role"]
        for have, token in tokens.items():
            if op["operationId"] in ("events", "workerClaim", "logout") and covers(have, need): continue
            target = url + re.sub(r"\{\w+\}", "0", path)
            body = b"{}" if method in ("post", "put", "patch") else None
            req = urllib.request.Request(target, data=body, method=method.upper())
            if body: req.add_header("Content-Type", "application/json")
            if token: req.add_header("Authorization", "Bearer " + token)
            try: status = urllib.request.urlopen(req, timeout=20).status
            except urllib.error.HTTPError as e: status = e.code
            n += 1
            want = "pass" if covers(have, need) else 401 if have == "none" else 403
            ok = status not in (401, 403) and status < 500 if want == "pass" else status == want
            if not ok:
                bad += 1
                print(f"{method.upper()} {path} as {have}: {status}, expected {want}")
print(n, "combinations")
sys.exit(bad > 0)
PY
is $? 0 "role matrix"
exit 0

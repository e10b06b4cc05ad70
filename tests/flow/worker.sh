# A worker by curl: its artifacts, claims and completions. Sourced after lib.sh; $w is the worker's id.
# tar_artifact FILE KIND MEMBER CONTENT [META] (CONTENT @PATH: what is in that file): an artifact as workers make them, with Python alone.
tar_artifact() {
	python3 - "$@" <<'PY'
import hashlib, io, json, sys, tarfile
path, kind, member, content = sys.argv[1:5]
meta = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
data = open(content[1:], "rb").read() if content.startswith("@") else content.encode()
man = json.dumps({"format": 1, "kind": kind, "members": [{"path": member, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}], "meta": meta}, sort_keys=True, separators=(",", ":")).encode()
with open(path, "wb") as f:
    for name, d in ((member, data), ("manifest.json", man)):
        t = tarfile.TarInfo(name)
        t.size, t.mode = len(d), 0o644
        f.write(t.tobuf(tarfile.PAX_FORMAT))
        f.write(d + b"\0" * (-len(d) % 512))
    f.write(b"\0" * 1024)
print(hashlib.sha256(open(path, "rb").read()).hexdigest())
PY
}
put_blob() { work PUT "/worker/blobs/$2" -H 'Content-Type: application/x-tar' --data-binary @"$1"; }
# outputs ROLE:KIND:DIGEST[:META]...: the list of a completion.
outputs() {
	local a role kind digest meta list=
	for a in "$@"; do
		IFS=: read -r role kind digest meta <<<"$a"
		list="$list,{\"role\":\"$role\",\"kind\":\"$kind\",\"digest\":\"$digest\",\"size\":1,\"meta\":${meta:-{\}}}"
	done
	echo "[${list#,}]"
}

claim() { # sets job, token, attempt, stage
	post "$WORKER" /worker/claim "{\"worker\":\"$w\",\"wait_s\":${1:-5}}"
	[ "$status" = 204 ] && return 1
	want 200 claim
	read -r job token attempt stage shard <<<"$(js '" ".join(str(x) for x in (b["job"]["id"], b["token"], b["attempt"], b["job"]["stage"], b["job"]["shard"]))')"
}
complete() { post "$WORKER" /worker/complete "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"outputs\":$1,\"metrics\":${2:-{\}},\"seconds\":1.5,\"engine\":\"cpu/1\",\"code\":\"c1\"}"; }

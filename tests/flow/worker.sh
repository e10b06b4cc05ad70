# A worker by curl: its artifacts, claims and completions. Sourced after lib.sh; $w is the worker's id.
# tar_artifact FILE KIND MEMBER CONTENT [META] (CONTENT @PATH: what is in that file): an artifact as workers make them, with Python alone.
# With VOLUME=1 the member is in FILE.v001 and FILE names that: its digest, then that one's and its size.
tar_artifact() {
	python3 - "$@" <<'PY'
import hashlib, json, os, sys, tarfile
path, kind, member, content = sys.argv[1:5]
meta = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
apart = os.environ.get("VOLUME") == "1"
data = open(content[1:], "rb").read() if content.startswith("@") else content.encode()
def archive(path, members):
    with open(path, "wb") as f:
        for name, d in members:
            t = tarfile.TarInfo(name)
            t.size, t.mode = len(d), 0o644
            f.write(t.tobuf(tarfile.PAX_FORMAT))
            f.write(d + b"\0" * (-len(d) % 512))
        f.write(b"\0" * 1024)
    return hashlib.sha256(open(path, "rb").read()).hexdigest()
man = {"format": 1, "kind": kind, "members": [{"path": member, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}], "meta": meta}
members = [(member, data)]
if apart:
    volume = archive(path + ".v001", members)
    size = os.path.getsize(path + ".v001")
    man["members"][0]["volume"] = 0
    man.update(format=2, volumes=[{"digest": volume, "size": size}])
    members = []
members.append(("manifest.json", json.dumps(man, sort_keys=True, separators=(",", ":")).encode()))
print(archive(path, members), *([volume, size] if apart else []))
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

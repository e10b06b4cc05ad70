#!/bin/bash
# A log of a gigabyte: its tail at once, a search that runs on the server, the whole as a file with
# ranges. The middle is a hole of zeros, so that the test costs no disk.
. tests/flow/lib.sh
start_redis
start_server
job=rlog.0.sft.0.0
mkdir -p "$DATA/logs/rlog/$job"
log=$DATA/logs/rlog/$job/1.log
printf 'first line\nLoss 0.5\n' >"$log"
truncate -s 1073741824 "$log"
printf '\nnear the end: loss 0.25\nlast line\n' >>"$log"
size=$(stat -c %s "$log")

before=$(date +%s%N)
api GET "/jobs/$job/attempts/1/log?offset=-10&limit=65536"
took=$((($(date +%s%N) - before) / 1000000))
is "$body" "last line" tail
is "$(header X-Log-Size)" "$size" size
[ $took -lt 8000 ] || fail "the tail took $took ms"
echo "tail of 1 GiB in $took ms, curl included"

# Forward, page by page, to the end.
cursor=0 found=0 pages=0
before=$(date +%s%N)
while [ "$cursor" != null ]; do
	api GET "/jobs/$job/attempts/1/log/search?q=LOSS&cursor=$cursor"
	want 200 search
	found=$((found + $(js 'len(b["items"])')))
	last=$(js 'b["items"][-1]["text"] if b["items"] else ""')
	cursor=$(js 'b["next_cursor"]')
	pages=$((pages + 1))
	[ $pages -lt 10 ] || fail "the search has no end"
done
is "$found" 2 "lines found"
is "$last" "near the end: loss 0.25"
echo "searched 1 GiB in $((($(date +%s%N) - before) / 1000000)) ms, $pages answers"
api GET "/jobs/$job/attempts/1/log/search?q=LOSS&case=1"
is "$(js 'b["items"]')" "[]" "exact search"
api GET "/jobs/$job/attempts/1/log/search?q="
want 400 "nothing to look for"
api GET "/jobs/$job/attempts/7/log/search?q=x"
is "$(js 'b["size"]')" 0 "search of nothing"

part() { call "$ADMIN" GET "/jobs/$job/attempts/1/log/content" -H "Range: bytes=$1"; }
part -10
want 206
is "$body" "last line"
is "$(header Content-Range)" "bytes $((size - 10))-$((size - 1))/$size"
part 0-9
is "$body" "first line"
part "$size-"
want 416 "beyond the end"
call "$ADMIN" HEAD "/jobs/$job/attempts/1/log/content" --head
is "$(header Content-Length)" "$size" "length of the file"
api GET "/jobs/$job/attempts/2/log/content"
want 404 "no such log"
api GET "/jobs/../attempts/1/log/content" --path-as-is
want 404 "an id with dots"
exit 0

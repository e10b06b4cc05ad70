#!/bin/sh
# Registers of every CUDA kernel, from what ptxas said when it was compiled, beside the stored ones.
#   cuda-registers.sh check FILE.ptxas...    no kernel takes or spills more than is stored
#   cuda-registers.sh write FILE.ptxas...    stores what is now
stored=kernels/cuda/registers.txt
mode=$1
shift
if [ $# -eq 0 ]; then
	echo "skip cuda: no nvcc"
	exit 0
fi
now=$(mktemp) && trap 'rm -f "$now"' EXIT
# One line per kernel and architecture: registers, bytes spilled, architecture, name.
cat "$@" | awk '
	/Compiling entry function/ { split($0, q, "\047"); name = q[2]; arch = q[4]; spill = 0 }
	/bytes spill stores/ { for (i = 2; i <= NF; i++) if ($i == "bytes" && $(i + 1) == "spill") spill += $(i - 1) }
	/Used [0-9]+ registers/ { for (i = 1; i < NF; i++) if ($i == "Used") print $(i + 1), spill, arch, name }
' | c++filt | sed 's/(anonymous namespace):://g; s/ void / /; s/_INTERNAL_[0-9a-f_]*[a-z]*_cu_[0-9a-f]*_[0-9]*:://g; s/(.*//' |
	sort -k4 -k3,3 -k1,1n -u >"$now"
if [ "$mode" = write ]; then
	{
		echo "# registers, bytes spilled, architecture, kernel; written by make cuda-registers"
		cat "$now"
	} >"$stored"
	exit 0
fi
bad=$(awk 'NR == FNR { if ($1 != "#") { k = $3; for (i = 4; i <= NF; i++) k = k " " $i; if ($1 > most[k]) most[k] = $1; spilt[k] = $2 } next }
	{ k = $3; for (i = 4; i <= NF; i++) k = k " " $i
	  if (!(k in most)) print k ": not listed (make cuda-registers)"
	  else if ($2 > spilt[k]) print k ": spills " $2 " bytes, stored are " spilt[k]
	  else if ($1 > most[k]) print k ": " $1 " registers, stored " most[k] }' "$stored" "$now")
if [ -n "$bad" ]; then
	echo "$bad" | sed 's/^/# /'
	echo "not ok cuda: registers of kernels"
	exit 1
fi
echo "ok cuda: $(wc -l <"$now") kernels within their stored registers and spills"

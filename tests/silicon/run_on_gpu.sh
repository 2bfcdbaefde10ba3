#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run_on_gpu.sh pack BUILD FOLDER             copies the program of a build, stripped, into FOLDER
# run_on_gpu.sh probes FOLDER OUT             on a machine with an H100: OUT/probes.tsv, OUT/fit.txt
# run_on_gpu.sh random FOLDER OUT [REVISION]  OUT/silicon_report.json, OUT/differences.txt, OUT/random.txt
# cuBLASLt is taken from Python's nvidia packages, from /usr/local/cuda, or from the loader's path.
set -u

case ${1-} in
  pack)
    mkdir -p "$3" || exit 3
    cp "$2/bin/silicon_gpu" "$3/" && strip "$3/silicon_gpu" || exit 3
    ls -l "$3/silicon_gpu"
    exit 0
    ;;
  probes | random) ;;
  *) sed -n '4,7s/^# //p' "$0"; exit 2 ;;
esac

bin=$2
out=$3
revision=${4-}
mkdir -p "$out" || exit 3
library=$(python3 -c 'import glob, nvidia
print(next(iter(sorted(f for p in nvidia.__path__ for f in glob.glob(p + "/**/libcublasLt.so.13", recursive=True))), ""))' 2>/dev/null)
[ -n "$library" ] || library=$(ls /usr/local/cuda/lib64/libcublasLt.so.13 2>/dev/null)
[ -n "$library" ] || library=libcublasLt.so.13
echo "cuBLASLt: $library"

if [ "$1" = probes ]; then
  timeout 120 "$bin/silicon_gpu" --cublaslt "$library" probes "$out/probes.tsv" && timeout 60 "$bin/silicon_gpu" --cublaslt "$library" fit "$out/fit.txt"
  code=$?
  cut -c 1-200 "$out/fit.txt"
  exit $code
fi
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
set -- "$out/silicon_report.json" "$out/differences.txt" 1048576 --driver "${driver:-unknown}"
[ -z "$revision" ] || set -- "$@" --revision "$revision"
timeout 300 "$bin/silicon_gpu" --cublaslt "$library" random "$@" >"$out/random.txt"
code=$?
tail -n 3 "$out/random.txt"
exit $code

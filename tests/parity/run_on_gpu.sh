#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run_on_gpu.sh pack BUILD FOLDER           copies the programs of a build, stripped, into FOLDER
# run_on_gpu.sh run FOLDER REPORT [REVISION]  on a machine with a GPU: all parity tests, compute-sanitizer on a reduced
#                                           set where it is installed, speeds, and REPORT (a JSON file)
# The programs need the C library, the driver and cuBLASLt 13: of Python's nvidia packages, of /usr/local/cuda, or of the
# loader's path. Exit 1 when a test or an instrument found something.
set -u

case ${1-} in
  pack)
    mkdir -p "$3" || exit 3
    for program in parity_gpu operations_gpu whole_run_gpu gpu_report; do
      cp "$2/bin/$program" "$3/" && strip "$3/$program" || exit 3
    done
    ls -l "$3"
    exit 0
    ;;
  run) ;;
  *) sed -n '4,8s/^# //p' "$0"; exit 2 ;;
esac

bin=$2
report=$3
revision=${4-}
logs=$(mktemp -d)
NARROWGAUGE_SOURCE=$(cd "$(dirname "$0")/../.." && pwd)  # recipes, models and the corpus of the runs
export NARROWGAUGE_SOURCE
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
status=0
library=$(python3 -c 'import glob, nvidia
print(next(iter(sorted(f for p in nvidia.__path__ for f in glob.glob(p + "/**/libcublasLt.so.13", recursive=True))), ""))' 2>/dev/null)
[ -n "$library" ] || library=$(ls /usr/local/cuda/lib64/libcublasLt.so.13 2>/dev/null)
[ -z "$library" ] || export LD_LIBRARY_PATH="$(dirname "$library"):${LD_LIBRARY_PATH-}"

# Tests and instruments share the GPU; the speeds have it alone.
programs="parity_gpu operations_gpu whole_run_gpu"
for program in $programs; do
  (
    timeout 300 "$bin/$program" --gtest_filter='-Reduced.*' --gtest_output=json:"$logs/$program.json" >"$logs/$program" 2>&1
    echo $? >"$logs/$program.code"
  ) &
done
wait
for program in $programs; do
  echo "== $program"
  grep -E '^\[  (PASSED|FAILED)|Failure|differ' "$logs/$program" | head -n 40
  [ "$(cat "$logs/$program.code")" = 0 ] || status=1
done

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
set -- --out "$report" --driver "${driver:-unknown}"
[ -z "$revision" ] || set -- "$@" --revision "$revision"
for program in $programs; do
  [ ! -f "$logs/$program.json" ] || set -- "$@" --tests "$program=$logs/$program.json"
done
# The quantizers on a reduced set; of the other operations the tests that stay small.
small='*.CastAndAdd:*.MixedDtypes:HeadsParity.*:LayersParity.Swiglu:LayersParity.RmsNorm*:LayersParity.Embedding:OptimizerParity.CrossEntropy'
small="$small:*.MovesOfRows:RouterParity.EqualScores*:*.MeasureShapes:*.EstimatorSpecs*:*.OutliersInForms:*.FormsKnownAmax:*.ProductsOfPlain*"
limit=100
if [ -n "$sanitizer" ]; then
  for tool in memcheck racecheck initcheck; do
    for program in parity_gpu operations_gpu; do
      filter='Reduced.*'
      [ $program = parity_gpu ] || filter=$small
      (
        timeout $limit "$sanitizer" --tool $tool --error-exitcode 9 "$bin/$program" --gtest_filter="$filter" \
          >"$logs/$tool.$program" 2>&1
        echo $? >"$logs/$tool.$program.code"
      ) &
    done
  done
  wait
fi
for tool in memcheck racecheck initcheck; do
  for program in parity_gpu operations_gpu; do
    if [ -z "$sanitizer" ]; then
      set -- "$@" --check "$tool $program=not run: compute-sanitizer not found"
      continue
    fi
    echo "== compute-sanitizer $tool $program"
    code=$(cat "$logs/$tool.$program.code")
    tail -n 2 "$logs/$tool.$program"
    case $code in
      0) set -- "$@" --check "$tool $program=clean" ;;
      124) set -- "$@" --check "$tool $program=not finished in $limit s" ;;
      *)
        set -- "$@" --check "$tool $program=FOUND SOMETHING (exit $code)"
        status=1
        grep -E 'Failure|=====' "$logs/$tool.$program" | head -n 40
        ;;
    esac
  done
done

echo "== speeds"
timeout 120 "$bin/gpu_report" "$@" || status=1
rm -r "$logs"
exit $status

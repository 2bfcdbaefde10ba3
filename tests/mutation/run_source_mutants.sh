#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Changes one place of a header at a time (columns 1 to 3 of source_mutants.tsv: header, text, text instead), builds
# source_judge.cpp with it and writes what noticed into column 4. Usage, from the root of the repository:
#   tests/mutation/run_source_mutants.sh build/release/tests/oracle/libng_oracle.a [table] > new.tsv
# Ends with 1 when a mutant survives, or a text is not found in its header. About 5 s a mutant. CXX names the compiler.
set -eu
oracle=$1
table=${2:-tests/mutation/source_mutants.tsv}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

build_and_judge() {
  if ! ${CXX:-c++} -std=c++20 -O1 -ffp-contract=off -I"$scratch/include" -Itests tests/mutation/source_judge.cpp \
    tests/mutation/dots.cpp "$oracle" -o "$scratch/judge" 2>"$scratch/errors"; then
    echo "the compiler"
  elif timeout 60 "$scratch/judge" >"$scratch/out"; then
    echo "survived"
  elif [ -s "$scratch/out" ]; then
    tr '\t' ' ' <"$scratch/out"
  else
    echo "end of time or crash"
  fi
}

cp -r include "$scratch/"
verdict=$(build_and_judge)
if [ "$verdict" != survived ]; then
  echo "unchanged headers fail: $verdict" >&2
  exit 1
fi
head -n 1 "$table"
tail -n +2 "$table" | cut -f 1-3 >"$scratch/mutants"
tab=$(printf '\t')
while IFS="$tab" read -r header from to; do
  file=include/narrowgauge/$header
  FROM=$from TO=$to awk '
    { at = done ? 0 : index($0, ENVIRON["FROM"])
      if (at) { $0 = substr($0, 1, at - 1) ENVIRON["TO"] substr($0, at + length(ENVIRON["FROM"])); done = 1 }
      print }
    END { exit !done }' "$file" >"$scratch/$file" || { echo "$header: '$from' is not there" >&2; failed=1; }
  verdict=$(build_and_judge)
  [ "$verdict" = survived ] && failed=1
  printf '%s\t%s\t%s\t%s\n' "$header" "$from" "$to" "$verdict"
  cp "$file" "$scratch/$file"
done <"$scratch/mutants"
exit $failed

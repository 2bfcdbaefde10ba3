#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# probes_to_hdf5.py PROBES.tsv FIT.txt OUT.h5 SOURCE: what `silicon_gpu probes` and `fit` measured, without the model's
# answers, as vectors. SOURCE names the device, driver and library. Same input, same bytes.
#
#   instructions/<name>/x<chain>   a, b [probes, k] codes, c, d [probes]: bits of the accumulator's type
#   cublaslt/<product>             a, b [probes] codes of one product, d [probes]: bits of the output's type
#   fit/<product>                  d [probes of `validate --probe generate`]; attribute algorithm
import re
import sys

import h5py
import numpy as np

probes, fit, out, source = sys.argv[1:]
instructions, library = {}, {}
for line in open(probes, encoding="ascii"):
    field = line.rstrip("\n").split("\t")
    if field[0] == "instruction":
        name, chain, terms = field[1], int(field[2]), field[4].split()
        k = chain * int(re.search(r"k(\d+)", name.split(".")[1]).group(1))
        a, b = np.zeros(k, np.uint32), np.zeros(k, np.uint32)
        for term in terms:
            at, x, y = re.fullmatch(r"(\d+):([0-9a-f]+)\*([0-9a-f]+)", term).groups()
            a[int(at)], b[int(at)] = int(x, 16), int(y, 16)
        instructions.setdefault((name, chain), []).append((a, b, int(field[5], 16), int(field[6], 16)))
    elif field[0] == "library" and len(field) == 8:
        library.setdefault(field[1], []).append([int(x, 16) for x in field[3:6]])

with h5py.File(out, "w", track_order=False) as file:
    file.attrs["source"] = source

    def put(group, key, values):
        group.create_dataset(key, data=np.asarray(values, np.uint32), compression="gzip", compression_opts=9, shuffle=True)

    for (name, chain), rows in instructions.items():
        group = file.create_group(f"instructions/{name}/x{chain}")
        for key, column in zip("abcd", zip(*rows)):
            put(group, key, column)
    for name, rows in library.items():
        group = file.create_group("cublaslt/" + name)
        for key, column in zip("abd", zip(*rows)):
            put(group, key, column)
    title = None
    for line in open(fit, encoding="ascii"):
        heading = re.fullmatch(r"(\S.* -> .*?): (id .*)\n", line)
        if heading:
            title = heading.groups()
        elif line.startswith("  results ") and title and re.fullmatch(r"  results( [0-9a-f]+)+\n", line):
            group = file.create_group("fit/" + title[0])
            group.attrs["algorithm"] = title[1]
            put(group, "d", [int(x, 16) for x in line.split()[1:]])
            title = None
    print(len(instructions), "instructions and chains,", len(library), "products,", len(file.get("fit", {})), "fits")

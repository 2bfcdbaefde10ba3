# SPDX-License-Identifier: Apache-2.0
"""Checks a quantizer written in NumPy against test vectors, without narrowgauge: only files are read.

    narrowgauge vectors --as mxfp4 --form npy --out vectors
    python3 notebooks/check_quantizer.py vectors

Replace `quantize` by your own: float32 [rows, cols] in, codes and scale bytes out. Exit 0 when every bit is equal, 1
otherwise.
"""
import hashlib
import json
import pathlib
import sys

import numpy as np

GRID = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)  # E2M1, code by code
MIDDLE = (GRID[1:] + GRID[:-1]) / 2


def quantize(x, ties_away=False):
    """OCP MXFP4: blocks of 32 along a row, scale 2^(floor(log2 amax) - 2), elements to nearest even, saturating."""
    blocks = x.reshape(x.shape[0], -1, 32)
    amax = np.abs(blocks).max(axis=2)
    with np.errstate(all="ignore"):
        exponent = np.where(amax > 0, np.frexp(amax)[1] - 3, -127)
    exponent = np.clip(exponent, -127, 127)
    scales = np.where(np.isfinite(amax), exponent + 127, 255).astype(np.uint8)
    scaled = np.ldexp(blocks.astype(np.float64), -exponent[..., None])
    magnitude = np.abs(scaled)
    codes = np.searchsorted(MIDDLE, magnitude, side="right" if ties_away else "left").astype(np.uint8)
    if not ties_away:  # a tie went down: up where that leaves an even code
        tie = (codes < 7) & (magnitude == MIDDLE[np.minimum(codes, 6)])
        codes += (tie & (codes % 2 == 1)).astype(np.uint8)
    codes |= np.signbit(scaled).astype(np.uint8) << 3
    return codes.reshape(x.shape), scales


def main(folder, ties_away):
    manifest = json.loads((folder / "manifest.json").read_text())
    wrong = 0
    for case in manifest["cases"]:
        arrays = {}
        for entry in case["arrays"]:
            content = (folder / entry["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"] + " was changed"
            arrays[entry["array"]] = np.load(folder / entry["file"])
        codes, scales = quantize(arrays["in/x"], ties_away)
        # Codes of a block whose scale is NaN mean nothing.
        counts = np.repeat(arrays["expected/scales"] != 255, 32, axis=1)
        differ = int(((codes != arrays["expected/codes"]) & counts).sum())
        differ_scales = int((scales != arrays["expected/scales"]).sum())
        wrong += differ + differ_scales
        print(f"{case['name']}: {differ} of {int(counts.sum())} codes, {differ_scales} of {scales.size} scales differ")
    return 0 if wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), "--ties-away" in sys.argv[2:]))

# SPDX-License-Identifier: Apache-2.0
"""Claim: notebooks/check_quantizer.py, which reads files only, passes the program's vectors with the right quantizer,
fails them with another tie rule, and validate names that rule. Usage: numpy_reader_test.py PROGRAM SOURCE_DIR
"""
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("NOT TESTED: no NumPy")
    sys.exit(77)

program, source = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(source / "notebooks"))
sys.dont_write_bytecode = True
import check_quantizer  # noqa: E402

with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    vectors = folder / "vectors"
    subprocess.run([program, "vectors", "--as", "mxfp4", "--form", "npy", "--out", vectors], check=True)
    script = [sys.executable, "-B", source / "notebooks" / "check_quantizer.py", vectors]
    assert subprocess.run(script).returncode == 0, "the right quantizer passes"
    assert subprocess.run(script + ["--ties-away"]).returncode == 1, "the wrong one does not"

    x = np.load(vectors / "boundary_codes.in.x.npy")
    codes, scales = check_quantizer.quantize(x, ties_away=True)
    packed = codes[:, 0::2] | codes[:, 1::2] << 4
    for name, array in (("x", x), ("codes", packed), ("scales", scales)):
        np.save(folder / f"{name}.npy", array)
    judged = subprocess.run(
        [program, "validate", "--operation", "quantize", "--spec", "mxfp4", "--in", folder / "x.npy", "--out-codes",
         folder / "codes.npy", "--out-scales", folder / "scales.npy", "--explain"], capture_output=True, text=True)
    assert judged.returncode == 1, judged.stdout + judged.stderr
    assert "equal under rounding=nearest_away\n" in judged.stdout, judged.stdout

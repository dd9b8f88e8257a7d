"""A folder of real image files streams: memory is bounded by the batches, not by the data."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image


def test_memory_does_not_grow_with_a_folder_of_png_files(tmp_path: Path) -> None:
    """1,200 files of 192 x 192 x 3 are 127 MiB as pixels; the peak may grow by a few batches of 8 MiB."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((192, 192), Image.Resampling.NEAREST).save(tmp_path / "one.png")
    for folder, count in (("few", 160), ("many", 1200)):
        for index in range(count):
            target = tmp_path / folder / str(index % 2) / f"{index}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((tmp_path / "one.png").read_bytes())
    program = f"""
        import resource
        from pathlib import Path
        from nas.data.prepare import Splits, prepare
        from nas.data.sources.images import Images

        def peak(name):
            root = Path({str(tmp_path)!r})
            prepare(Images(path=name, size=(192, 192)), Splits(), root / f"{{name}}-prepared", task="t", root=root)
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = peak("few")
        print(peak("many") - before)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (tmp_path / "many-prepared" / "fit_inputs.npy").stat().st_size > 60e6
    assert int(result.stdout) * unit < 40e6

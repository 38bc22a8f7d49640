"""One epoch of a training's input pipeline: worker processes read files in a shuffled order, the trainer computes on batches.

The accelerator is a sleep of fixed length for each batch, as in the DLIO benchmark's resnet50 pattern (files of about 100 KB, small
batches). What is printed is how long it computed and how long the epoch took, from the first request for a batch on.
"""

import json
import multiprocessing
import os
import random
import sys
import time

WORKERS = 8
BATCH = 50
# As many batches as workers are asked for ahead, twice, like PyTorch's prefetch_factor.
AHEAD = 2 * WORKERS
COMPUTE_SECONDS = 0.02


def load(paths):
    """Reads a batch; returns its bytes."""
    total = 0
    for path in paths:
        with open(path, "rb") as file:
            total += len(file.read())
    return total


def main():
    root, epoch = sys.argv[1], int(sys.argv[2])
    # All of a directory's names are known to a training before it begins.
    files = sorted(os.path.join(d, name) for d, _, names in os.walk(root) for name in names)
    random.Random(epoch).shuffle(files)
    batches = [files[i : i + BATCH] for i in range(0, len(files), BATCH)]
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        pool.map(load, [[]] * WORKERS)
        begun = time.monotonic()
        pending = [pool.apply_async(load, (batch,)) for batch in batches[:AHEAD]]
        read = computed = 0.0
        for number in range(len(batches)):
            read += pending.pop(0).get()
            if number + AHEAD < len(batches):
                pending.append(pool.apply_async(load, (batches[number + AHEAD],)))
            step = time.monotonic()
            time.sleep(COMPUTE_SECONDS)
            computed += time.monotonic() - step
        wall = time.monotonic() - begun
    print(json.dumps({"files": len(files), "bytes": int(read), "compute": computed, "wall": wall}))


main()

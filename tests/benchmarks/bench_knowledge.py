"""How exact and how fast the knowledge decomposition is: planted truth, independence, invariance, size.

Run by `make bench-knowledge`. Times are elapsed and processor seconds; a busy machine lengthens the first.
"""

import resource
import time

import torch

from analyses.knowledge.decomposition import Decomposition, decompose
from tests.planted import independent, planted, rotation

METHODS = ("adjusted", "ridge")


def size(n: int, width: int) -> None:
    """Time and memory of one large decomposition."""
    teacher, student = (x.float() for x in planted(n, width, width, shared=0.5, noise=0.05))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, used = time.perf_counter(), time.process_time()
    found = decompose(teacher, student)
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"n = {n:,}, d = {width:,}: {elapsed:.1f} s ({used:.1f} s of processor on {torch.get_num_threads()} threads), "
        f"peak memory of the process {peak / 2**20:.2f} GiB (before: {before / 2**20:.2f}); {told(found)}"
    )


def wide(n: int, width: int) -> None:
    """Features far wider than there are samples."""
    teacher, student = (x.float() for x in planted(n, width, width, shared=0.5, noise=0.05))
    start = time.perf_counter()
    found = decompose(teacher, student)
    print(f"n = {n:,}, d = {width:,} by Gram matrices: {time.perf_counter() - start:.1f} s; {told(found)}")


def recovered(method: str, shared: float, noise: float) -> str:
    """Largest errors over sizes; noise is specific, so that it makes the true share a little smaller."""
    found = [
        decompose(*planted(n, width, width, shared=shared, noise=noise), method=method)
        for n in (1000, 4000)
        for width in (64, 512)
    ]
    shares = [side.fraction.value for one in found for side in (one.teacher, one.student)]
    error, distance = (max(abs(share - of) for share in shares) for of in (shared / (1 + noise**2), shared))
    dimensions = sorted({str(one.dimension) for one in found})
    return f"largest error {error:.4f}, {distance:.4f} from {shared}, dimensions {', '.join(dimensions)} (truth 10)"


def told(found: Decomposition) -> str:
    """Fractions and dimension in words."""
    teacher, student = found.teacher.fraction.value, found.student.fraction.value
    return f"teacher {teacher:+.4f}, student {student:+.4f} general, {found.dimension} dimensions"


def main() -> None:
    """Print everything."""
    size(10_000, 2048)
    wide(1000, 100_000)
    for n, width in ((1000, 512), (500, 2048)):
        for method in METHODS:
            found = decompose(*independent(n, width), method=method)
            print(f"independent, n = {n:,}, d = {width:,}, {method}: {told(found)}")
    for method in METHODS:
        for shared in (0.25, 0.5, 0.75):
            for noise in (0.05, 0.05**0.5):
                case = f"planted {shared}, noise {100 * noise**2:.2g} % of the signal's variance, {method}"
                print(f"{case}: {recovered(method, shared, noise)}")
    teacher, student = planted(1000, 64, 96, shared=0.5, noise=0.05)
    for method in METHODS:
        found = decompose(teacher, 3 * teacher @ rotation(64) + 100, method=method)
        moved = decompose(0.01 * teacher @ rotation(64) - 7, 50 * student @ rotation(96) + 9, method=method)
        base = decompose(teacher, student, method=method)
        change = max(abs(moved.fractions[name].value - base.fractions[name].value) for name in base.fractions)
        print(f"rotated and scaled, {method}: {told(found)}; change under rotation, shift and scale {change:.1e}")


if __name__ == "__main__":
    main()

"""Work that threads do ahead of the one who takes its results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def computed_ahead(
    compute: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Result]:
    """Yield compute(item) in the order of the items, at most `ahead` of them computed before they are asked for."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(compute, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

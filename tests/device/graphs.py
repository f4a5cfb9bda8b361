"""What a CUDA graph would save of a step: the same plain step launched kernel by kernel, and replayed at once."""

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from tests.benchmarks.large_batch import plain_sigmoid
from tests.benchmarks.measurement import interleaved
from tests.benchmarks.training_speed import IMAGE_DIM, TEXT_DIM, tower
from tests.device.findings import Finding
from tests.device.sizes import Sizes

STEPS = 50
WARMUP = 3


def graphs(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Compare steps of a plain `mlp`, whose learning rate never changes, at the smallest batch size."""
    case = f"CUDA graph of a plain step, batch {min(sizes.batches):,}"
    if device.type != "cuda":
        yield Finding("what would pay", case, "not measured", note="only CUDA has graphs")
        return
    step = _plain_step(min(sizes.batches), device)
    replay = _captured(step)
    medians = interleaved(3, eager=_repeated(step), graph=_repeated(replay))
    note = f"{1e3 * medians['graph'] / STEPS:.3g} ms a step"
    yield Finding("what would pay", case, f"{medians['eager'] / medians['graph']:.2f} × as fast", note=note)


def _plain_step(batch_size: int, device: torch.device) -> Callable[[], None]:
    towers = [tower(width).to(device) for width in (IMAGE_DIM, TEXT_DIM)]
    rows = [torch.randn(batch_size, width, device=device) for width in (IMAGE_DIM, TEXT_DIM)]
    parameters = [value for each in towers for value in each.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True, capturable=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            x, y = (each(part) for each, part in zip(towers, rows, strict=True))
        plain_sigmoid(*(functional.normalize(each.float(), dim=1) for each in (x, y))).backward()
        optimizer.step()

    return step


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _repeated(step: Callable[[], None]) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()

    return steps

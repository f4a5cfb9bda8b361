"""Training steps: the fit loop against the loop that a user would write, and against its matrix products alone."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from frozenalign.configuration.experiments import experiment_from
from frozenalign.data.pairs import RAW, ResidentPairs
from frozenalign.system.devices import choose_device, choose_precision
from frozenalign.training.data import TrainingData
from frozenalign.training.epochs import end_epoch, train_epoch
from frozenalign.training.fit import start
from tests.benchmarks.measurement import LIMIT, OURS, REFERENCE, Row, interleaved

IMAGE_DIM, TEXT_DIM, HIDDEN_DIM, OUTPUT_DIM = 768, 4096, 1024, 512
CAPTIONS = 5


def measure(quick: bool = False) -> list[Row]:
    """Compare one epoch of `mlp` with the sigmoid loss at small and large batches."""
    device = choose_device("auto")
    rows = []
    for batch_size, batches in ((32, 5), (64, 5)) if quick else ((512, 16), (4096, 5)):
        data = random_pairs(batches * batch_size)
        ours = our_epoch(data, batch_size, device)
        cases = {REFERENCE: plain_loop(data, batch_size, device), OURS: ours, LIMIT: products(data, batch_size, device)}
        medians = interleaved(1 if quick else 5, **cases)
        rows.append(
            Row(f"mlp + siglip, batch {batch_size}, {device.type}", medians[OURS], medians[REFERENCE], medians[LIMIT])
        )
    return rows


def random_pairs(count: int) -> ResidentPairs:
    """Return pairs of random rows as wide as SigLIP and E5-Mistral, five texts to an image."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(-(-count // CAPTIONS), IMAGE_DIM, generator=generator)
    return ResidentPairs(images, torch.randn(count, TEXT_DIM, generator=generator), torch.arange(count) // CAPTIONS)


def our_epoch(pairs: ResidentPairs, batch_size: int, device: torch.device) -> Callable[[], None]:
    """Return an epoch of the fit loop, in its number format."""
    compute = choose_precision("auto", device)
    held = torch.float16 if compute == torch.float32 else compute
    train = ResidentPairs(pairs.images.to(held), pairs.texts.to(held), pairs.text_image, compute)
    val = ResidentPairs(train.images[:2], train.texts[:10], train.text_image[:10], compute)
    document = {
        "model": {"type": "mlp", "hidden_dim": HIDDEN_DIM, "output_dim": OUTPUT_DIM},
        "loss": {"type": "siglip", "bias_init": "auto"},
        "training": {"batch_size": batch_size, "num_epochs": 100},
    }
    experiment = experiment_from(document, "benchmark")
    data = TrainingData(train, val, RAW, RAW).to(device)
    state = start(experiment, data, seed=0)

    def epoch() -> None:
        train_epoch(state, data.train, experiment.training, seed=0)
        end_epoch(state)

    return epoch


class PairDataset(Dataset):
    """Pairs one at a time, as tutorials write it."""

    def __init__(self, pairs: ResidentPairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs.texts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pairs.images[self.pairs.text_image[index]], self.pairs.texts[index]


def tower(input_dim: int) -> nn.Module:
    """Return the perceptron of the `mlp` head in plain PyTorch."""
    return nn.Sequential(
        nn.Linear(input_dim, HIDDEN_DIM),
        nn.LayerNorm(HIDDEN_DIM),
        nn.GELU(),
        nn.Dropout(0.1),
        nn.Linear(HIDDEN_DIM, OUTPUT_DIM),
    )


def plain_loop(pairs: ResidentPairs, batch_size: int, device: torch.device) -> Callable[[], None]:
    """Return an epoch of the loop that a user would write: DataLoader, fp32, unfused AdamW, the loss by its formula."""
    image_tower, text_tower = tower(IMAGE_DIM).to(device), tower(TEXT_DIM).to(device)
    scale = nn.Parameter(torch.tensor(2.3, device=device))
    bias = nn.Parameter(torch.tensor(-10.0, device=device))
    parameters = [*image_tower.parameters(), *text_tower.parameters(), scale, bias]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, foreach=False, fused=False)
    loader = DataLoader(PairDataset(pairs), batch_size, shuffle=True)

    def epoch() -> None:
        for images, texts in loader:
            x = functional.normalize(image_tower(images.to(device)), dim=-1)
            y = functional.normalize(text_tower(texts.to(device)), dim=-1)
            signs = 2 * torch.eye(len(x), device=device) - 1
            loss = -functional.logsigmoid(signs * (scale.exp() * x @ y.T + bias)).sum() / len(x)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            loss.item()

    return epoch


def products(pairs: ResidentPairs, batch_size: int, device: torch.device) -> Callable[[], None]:
    """Return the matrix products of an epoch, forward and backward, and nothing else: the machine's limit."""
    step = products_of_step(batch_size, device)

    def epoch() -> None:
        for _ in range(len(pairs) // batch_size):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


def products_of_step(batch_size: int, device: torch.device) -> Callable[[], None]:
    """Return the matrix products of a step, which are launched but not waited for."""
    dtype = choose_precision("auto", device)
    shapes = list(_product_shapes(batch_size))
    sizes = {(a, b) for m, k, n in shapes for a, b in ((m, k), (k, n), (m, n))}
    matrices = {size: torch.randn(size, dtype=dtype, device=device) for size in sizes}

    def step() -> None:
        for m, k, n in shapes:
            torch.mm(matrices[m, k], matrices[k, n], out=matrices[m, n])

    return step


def _product_shapes(batch: int) -> Iterator[tuple[int, int, int]]:
    """Yield (m, k, n) of every product of a step: outputs, gradients of weights, and of inputs where needed."""
    for input_dim in (IMAGE_DIM, TEXT_DIM):
        yield from ((batch, input_dim, HIDDEN_DIM), (HIDDEN_DIM, batch, input_dim))
        yield from ((batch, HIDDEN_DIM, OUTPUT_DIM), (OUTPUT_DIM, batch, HIDDEN_DIM), (batch, OUTPUT_DIM, HIDDEN_DIM))
    yield from ((batch, OUTPUT_DIM, batch), (batch, batch, OUTPUT_DIM), (batch, batch, OUTPUT_DIM))

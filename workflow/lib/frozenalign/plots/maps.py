"""Maps of projected pairs in the plane."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE


def pca_map(images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map images (n, D) and texts (n, D) to the first two principal components of both, (n, 2) each."""
    both = np.concatenate([images, texts])
    plane = PCA(n_components=min(2, both.shape[1]), random_state=0).fit_transform(both)
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    return plane[: len(images)], plane[len(images) :]


def tsne_map(images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map images (n, D) and texts (n, D) to the plane by t-SNE on cosine distances, (n, 2) each."""
    both = np.concatenate([images, texts])
    perplexity = min(30.0, (len(both) - 1) / 3)
    projection = TSNE(metric="cosine", init="random", perplexity=perplexity, max_iter=500, random_state=0)
    plane = projection.fit_transform(both)
    return plane[: len(images)], plane[len(images) :]

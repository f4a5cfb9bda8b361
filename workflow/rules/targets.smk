"""What a run is made of: the folders of its heads, baselines and studies, and the files the report reads of them."""

EVALUATED = ["resolved_config.yaml", "run.json", "evaluation_results/metrics.json", "evaluation_results/ranks.npz"]


def head_folders(dataset):
    """Return the folder of every head and seed of the run."""
    names = [*config["experiments"], *(f"{TUNED}{study}" for study in config["tuning"])]
    return [f"results/{dataset}/{name}/seed{seed}" for name in names for seed in config["seeds"]]


def study_folders(dataset):
    """Return the folder of every study of the run."""
    return [f"results/{dataset}/tuning/{study}" for study in config["tuning"]]


def baseline_folders(dataset):
    """Return the folder of every baseline; raw_cosine counts only where both embeddings are equally wide."""
    names = [name for name in config["baselines"] if name != "raw_cosine" or equally_wide(dataset)]
    return [f"results/{dataset}/{name}/seed0" for name in names]


def report_files(dataset):
    """Return the pages that a run ends with."""
    return [f"results/{dataset}/report/index.html", f"results/{dataset}/report/leaderboard.csv"]


def head_files(wildcards):
    """Return what the page reads of every head."""
    names = [*EVALUATED, "loss_history.json", "training_curves.png"]
    return [f"{folder}/{name}" for folder in head_folders(wildcards.dataset) for name in names]


def baseline_files(wildcards):
    """Return what the page reads of every baseline."""
    return [f"{folder}/{name}" for folder in baseline_folders(wildcards.dataset) for name in EVALUATED]


def study_files(wildcards):
    """Return what the page reads of every study."""
    names = ["best_config.yaml", "trials.csv", "optimization_history.png", "parameter_importance.png"]
    return [f"{folder}/{name}" for folder in study_folders(wildcards.dataset) for name in names]

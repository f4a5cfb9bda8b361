"""What a run is made of: the folders of its heads, ensembles, baselines and studies, and the files read of them."""

EVALUATED = [
    "resolved_config.yaml",
    "run.json",
    "evaluation_results/metrics.json",
    "evaluation_results/ranks.npz",
    "evaluation_results/worst_queries.json",
]


def head_folders(dataset):
    """Return the folder of every head and seed of the run."""
    names = [*config["experiments"], *(variant.experiment for variant in variants_of(config))]
    return seed_folders(dataset, [*names, *(f"{TUNED}{study}" for study in config["tuning"])])


def seed_folders(dataset, experiments):
    """Return the folder of every seed of the experiments."""
    return [f"results/{dataset}/{name}/seed{seed}" for name in experiments for seed in config["seeds"]]


def ensemble_folders(dataset):
    """Return the folder of every ensemble of the run."""
    return [f"results/{dataset}/{name}/seed0" for name in config["ensembles"]]


def member_files(name):
    """Return a function of the wildcards of an ensemble that gives the file `name` of each of its members."""
    return lambda wildcards: [
        f"{folder}/{name}" for folder in seed_folders(wildcards.dataset, config["ensembles"][wildcards.experiment])
    ]


def study_folders(dataset):
    """Return the folder of every study of the run."""
    return [f"results/{dataset}/tuning/{study}" for study in config["tuning"]]


def baseline_folders(dataset):
    """Return the folder of every baseline; raw_cosine counts only where both embeddings are equally wide."""
    names = [name for name in config["baselines"] if name != "raw_cosine" or equally_wide(dataset)]
    return [f"results/{dataset}/{name}/seed0" for name in names]


def run_folders(wildcards):
    """Return the folder of every row of the leaderboard: heads, ensembles and baselines."""
    return [
        folder
        for folders in (head_folders, ensemble_folders, baseline_folders)
        for folder in folders(wildcards.dataset)
    ]


def report_files(dataset):
    """Return the pages that a run ends with."""
    return [f"results/{dataset}/report/index.html", f"results/{dataset}/report/leaderboard.csv"]


def head_files(wildcards):
    """Return what the page reads of every head."""
    names = [*EVALUATED, "loss_history.json", "training_curves.png"]
    return [f"{folder}/{name}" for folder in head_folders(wildcards.dataset) for name in names]


def other_files(wildcards):
    """Return what the page reads of every ensemble and baseline."""
    folders = [*ensemble_folders(wildcards.dataset), *baseline_folders(wildcards.dataset)]
    return [f"{folder}/{name}" for folder in folders for name in EVALUATED]


def study_files(wildcards):
    """Return what the page reads of every study."""
    names = ["study.json", "best_config.yaml", "trials.csv", "optimization_history.png", "parameter_importance.png"]
    return [f"{folder}/{name}" for folder in study_folders(wildcards.dataset) for name in names]

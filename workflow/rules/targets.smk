"""What a run is made of: the folders of its heads, ensembles, baselines and studies, and the files read of them."""

from frozenalign.configuration.registrations import baselines, fitting_baselines

EVALUATED = [
    "run.json",
    *(f"evaluation_results/{name}" for name in ("metrics.json", "ranks.npz", "worst_queries.json", "examples.json")),
]
EVALUATION_PICTURES = ["recall_at_k", "similarity_histogram", "embedding_pca", "embedding_tsne"]
EVALUATION_FIGURES = [f"evaluation_results/{name}.png" for name in EVALUATION_PICTURES]


def head_folders(dataset):
    """Return the folder of every head and seed of the run."""
    names = [*config["experiments"], *variants()]
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


def evaluated_models(wildcards):
    """Return the models that an evaluation loads: the head or baseline, or all members of an ensemble."""
    if wildcards.experiment in config["ensembles"]:
        return member_files("best_model.pt")(wildcards)
    return [f"results/{wildcards.dataset}/{wildcards.experiment}/seed{wildcards.seed}/best_model.pt"]


def model_arguments(wildcards, input):
    """Return the command-line arguments that name the models of `evaluated_models`."""
    if wildcards.experiment in config["ensembles"]:
        return ["--models", *input.models]
    return [f"--model={input.models[0]}"]


def part_arguments(wildcards, input):
    """Return the command-line arguments that name the counts of the parts of an evaluation, or none."""
    return ["--parts", *input.parts] if input.parts else []


def study_folders(dataset):
    """Return the folder of every study of the run."""
    return [f"results/{dataset}/tuning/{study}" for study in config["tuning"]]


def worker_files(wildcards):
    """Return the file that each worker of a study ends with."""
    workers = RUN.studies[wildcards.study].workers if wildcards.study in RUN.studies else 1
    folder = f"results/{wildcards.dataset}/tuning/{wildcards.study}/workers"
    return [f"{folder}/{number}-of-{workers}.json" for number in range(1, workers + 1)]


def processes(wildcards):
    """Return how many trials a worker of a study runs at the same time."""
    return RUN.studies[wildcards.study].n_jobs if wildcards.study in RUN.studies else 1


def worker_threads(wildcards):
    """Return the threads of a worker: one for each of its trials, two if it is the study's only worker."""
    return max(processes(wildcards), 2 if wildcards.worker.endswith("-of-1") else 1)


def evaluated_baselines(dataset):
    """Return the baselines of the leaderboard, without those that the embeddings do not fit."""
    return fitting_baselines(config["baselines"], *embedding_widths(dataset))


def fitted_baselines(dataset):
    """Return the baselines that one job fits: all, the CCA only where a row or a head of the run needs it.

    With those of the leaderboard alone, one more baseline would fit the CCA again and retrain heads that start from it.
    """
    needed = "cca" in config["baselines"] or any(map(RUN.takes_a_start, [*RUN.experiments, *RUN.studies]))
    left_out = {"cca"} if not needed else set()
    return fitting_baselines((name for name in baselines() if name not in left_out), *embedding_widths(dataset))


def run_folders(dataset):
    """Return the folder of every row of the leaderboard: heads, ensembles and baselines."""
    baseline_folders = [f"results/{dataset}/{name}/seed0" for name in evaluated_baselines(dataset)]
    return [*head_folders(dataset), *ensemble_folders(dataset), *baseline_folders]


def run_files(names, folders):
    """Return a file or several of each of the folders that a function gives for the run's data set."""
    names = [names] if isinstance(names, str) else names
    return [f"{folder}/{name}" for folder in folders(config["dataset"]) for name in names]


def folders_of(paths):
    """Return the folder of each run or study among a job's inputs, of which `paths` gives one file each."""
    return [str(Path(path).parent) for path in paths]


def picture(path, kind, category):
    """Return a picture that its job updates, flagged for `snakemake --report`. kind: names the caption."""
    parts = Path(path).parts
    labels = {"study": parts[3]} if parts[2] == "tuning" else {"experiment": parts[2], "seed": parts[3][len("seed") :]}
    labels["figure"] = kind.replace("_", " ")
    return report(update(path), caption=f"../report/{kind}.rst", category=category, labels=labels)


def demo_pictures(wildcards):
    """Return the folder of the generated pictures, or none; its time says nothing of what it holds."""
    return ancient(f"{config['datasets'][config['dataset']]['dir']}/images") if generated() else []


def picture_dir(wildcards, input):
    """Return the folder that pictures are looked for in: that of the data."""
    return Path(input.pictures).parent if generated() else given_dir(config["datasets"][config["dataset"]])


def picture_arguments(wildcards):
    """Return the command-line argument that names another folder of pictures, or none."""
    section = config["datasets"][config["dataset"]]
    folder = section.get("pictures")
    if (
        not folder
        and encoding()
        and not Path(encoding()["images"]).absolute().is_relative_to(Path(embeddings_dir(config["dataset"])).absolute())
    ):
        folder = encoding()["images"]
    return [f"--pictures={folder}"] if folder else []


def report_files(dataset):
    """Return the pages that a run ends with."""
    return [f"results/{dataset}/report/index.html", f"results/{dataset}/report/leaderboard.csv"]

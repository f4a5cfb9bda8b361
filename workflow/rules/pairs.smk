"""The pairs of encodings that a run compares, and the files that are read of each."""

import functools

from frozenalign.configuration import encodings
from frozenalign.configuration.registrations import fitting_baselines
from frozenalign.encoders.choice import checked_encoder


@functools.cache
def encoding_pairs():
    """Return the pairs of encodings of the run, its own first; none in the run of a pair."""
    return [] if config["pair"] else encodings.pairs_of(config)


def ask_alike():
    """Let the rules of pairs ask for the threads and resources that a profile sets by name for those of the run."""
    asked = workflow.resource_settings
    for settings in (asked._parsed_overwrite_threads, asked._parsed_overwrite_resources):
        own = list(settings.items())
        settings.update({f"{pair.dataset}_{name}": value for pair in encoding_pairs()[1:] for name, value in own})


def compared_sets():
    """Return the data sets of the pairs, or the run's alone."""
    return [pair.dataset for pair in encoding_pairs()] or [config["dataset"]]


def compared_folders():
    """Return the folder of every head and seed, ensemble and baseline of every pair."""
    return [
        folder
        for pair in encoding_pairs()
        for folder in [
            *head_folders(pair.dataset),
            *ensemble_folders(pair.dataset),
            *(f"results/{pair.dataset}/{name}/seed0" for name in pair_baselines(pair)),
        ]
    ]


def pair_baselines(pair):
    """Return the baselines of a pair's leaderboard, without those that its encodings do not fit."""
    widths = (encoding_width(getattr(pair, f"{modality}s"), modality) for modality in ("image", "text"))
    return fitting_baselines(config["baselines"], *widths)


def encoding_width(encoding, modality):
    """Return the width of an encoding of a modality."""
    with told_by_snakemake():
        return checked_encoder(encoding.encoder, modality, CONFIGURATIONS, encoding.changes, encoding.name)[1].width


def compared_files(names):
    """Return a file or several of each folder of `compared_folders`."""
    names = [names] if isinstance(names, str) else names
    return [f"{folder}/{name}" for folder in compared_folders() for name in names]


def encodings_pages():
    """Return the page that compares the encodings of a run, or none."""
    return [f"results/{config['dataset']}/encodings/index.html"] if encoding_pairs()[1:] else []


def encodings_link():
    """Return the command-line argument that names the page about the encodings of the set, from a report, or none."""
    of = config["pair"]["of"] if config["pair"] else config["dataset"]
    return [f"--encodings=../../{of}/encodings/index.html"] if config["pair"] or encoding_pairs()[1:] else []

"""Adds the recipes of ``configs/`` to the wheel, as the package ``sciembed_train.configs``."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["sciembed_train*"]),
        "sciembed_train.configs",
        "sciembed_train.configs.machine",
    ],
    package_dir={"sciembed_train.configs": "configs"},
    package_data={
        "sciembed_train": [
            *("**/*.sql", "**/*.jinja", "evaluation/published.yaml", "search/page/*", "py.typed"),
        ],
        "sciembed_train.configs": ["*.yaml"],
        "sciembed_train.configs.machine": ["*.yaml", "*.sbatch"],
    },
)

"""Which launchers need a package that is not always installed. Imports no torch."""

from importlib.util import find_spec

EXTRAS = {
    "hydra_plugins.hydra_joblib_launcher": "joblib",
    "hydra_plugins.hydra_ray_launcher": "ray",
    "hydra_plugins.hydra_submitit_launcher": "slurm",
}
"""The project's extra that installs each launcher."""


def missing_extra(target: str) -> str:
    """Return what to install for the launcher of that class, "" if it is there or none of ours."""
    for package, extra in EXTRAS.items():
        if target.startswith(f"{package}.") and find_spec(package) is None:
            return f"hydra/launcher: {package.split('.')[1]} is not installed: pip install 'salsa[{extra}]'"
    return ""

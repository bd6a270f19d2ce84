"""What runs, and in which order: the plan of an experiment, its execution, sweeps and tracking."""

import warnings

# conf/hydra/launcher/ completes what the launchers' plugins bring under the same names. Hydra warns of that in every
# process that composes, and all of them import this package.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

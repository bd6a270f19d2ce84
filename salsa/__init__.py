"""The science of SALSA: soups, references, PPO, evaluation and the stage store. Knows nothing of pipelines or Hydra."""

"""Training of language models and reward models, and the loop under every training."""

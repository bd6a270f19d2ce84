"""The workspace on Weights & Biases that shows what this project logs: its layout as data, and how it gets there."""

"""Reward and loss between models, in weight space: what a line or a plane of soups shows, in numbers and figures."""

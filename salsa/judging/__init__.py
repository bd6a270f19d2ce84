"""Asking judges about replies: prompts, endpoints, and verdicts as data. Free of torch."""

"""What models learn from and are asked: sources of text, prompts and preferences, and how they become tokens."""

"""The tables of `salsa winrate`: for the terminal, as Markdown and as tidy CSV."""

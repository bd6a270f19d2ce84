"""Everything that judgments say of models, and of their judge, as one JSON-able report; `salsa winrate`."""

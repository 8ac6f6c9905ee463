"""The fault bench: a stack of its own, a fake website, a seeded executioner, and a checker that keeps its own truth."""

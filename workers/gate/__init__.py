"""The owner's test questions: asked of a new generation before it goes live, beside the one that answers now."""

"""The documentation is true: what it lists is what the code has."""

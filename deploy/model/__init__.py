"""What is made once, at development time, for the local embedding model."""

"""The training side: claims runs, fetches, extracts, chunks, embeds and stores sources."""

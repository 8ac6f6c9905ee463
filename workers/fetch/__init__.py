"""Where bytes come from: the one safe HTTP client, crawls and sitemaps, the bucket."""

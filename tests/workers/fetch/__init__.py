"""Tests of the fetch stage: addresses, the safe client, robots, sitemaps, crawls, the bucket."""

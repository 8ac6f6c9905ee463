"""The embedded stack, the stand-in dashboard and the sample company."""

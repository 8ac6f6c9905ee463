"""`make bench`: what the product costs, measured on a stack of its own beside a loopback provider."""

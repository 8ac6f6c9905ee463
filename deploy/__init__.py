"""What runs the product: the embedded stack, SQL for both databases, manifests."""

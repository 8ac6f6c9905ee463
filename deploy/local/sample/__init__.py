"""A fictional maker of kilns: its help centre, its manual, and what customers ask about them."""

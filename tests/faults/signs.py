"""What the bench and its workers tell each other: names of variables, and sentences in documents."""

LEASE_S, SITE, BREAK = "FAULTS_LEASE_S", "FAULTS_SITE", "FAULTS_BREAK"
DOORS, DEATHS = "/doors/", "/deaths/"
"""Paths of the bench's own site at which a worker waits, or says that it is about to die."""
KILLER = "This document kills worker {name}."
AT_DOOR = "This document stops at {stage} behind door {name}."

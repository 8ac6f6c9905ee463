"""What the API does about training: accepts runs, tells how they stand, deletes sources. Workers do the rest."""

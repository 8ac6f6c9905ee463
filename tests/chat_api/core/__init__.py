"""Tests of the floor that the API and the workers stand on."""

"""Yours: what is scaffolded here is written once."""

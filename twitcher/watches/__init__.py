"""Decides when an action runs, and keeps the watches that are in force."""

"""Tests that need neither an engine's server nor any other. All of them run in a second."""

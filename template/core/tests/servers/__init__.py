"""Tests that need a server, such as MongoDB, but not every engine."""

"""Tests that start processes of a service in a folder of their own."""

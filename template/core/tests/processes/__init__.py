"""Tests that start processes of a service. Its folder is made for each test."""

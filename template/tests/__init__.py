"""Tests of this service: yours."""

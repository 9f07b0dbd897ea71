"""Tests of the machinery: the template's."""

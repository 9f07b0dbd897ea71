"""Tests of the machinery. They belong to the template, and use no code of `app/`."""

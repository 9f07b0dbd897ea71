"""Your routes. List each module's router in `app/main.py`.

A route's docstring is its description in the API documentation at `/docs`.
"""

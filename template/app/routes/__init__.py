"""Your routes. List each module's router in `app/main.py`."""

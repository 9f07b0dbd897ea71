"""The machinery of this service. `just update` replaces it, so keep your code in `app/`."""

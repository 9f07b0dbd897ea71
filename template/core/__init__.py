"""The machinery of this service. It belongs to the template: `just update` replaces it, so keep your code in `app/`."""

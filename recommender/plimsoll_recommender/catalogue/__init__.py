"""The bundled catalogue: models and accelerators."""

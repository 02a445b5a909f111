"""The Helm chart: where it is, the real helm that renders and installs it, and its README."""
